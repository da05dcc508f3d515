package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client asks the admin API of a running Callgate.
type Client struct {
	server string
	token  string
	http   http.Client
}

// NewClient returns a client of the API at server (http://host:port) that acts
// with the given OIDC token.
func NewClient(server, token string) *Client {
	return &Client{server: strings.TrimSuffix(server, "/"), token: token, http: http.Client{Timeout: 30 * time.Second}}
}

// Refused is the API's own refusal of a request.
type Refused struct {
	Status int
	Detail string
}

func (r Refused) Error() string { return r.Detail }

// Approvals lists held calls that the token's owner may decide or asked for.
// state is "open" or "" for all.
func (c *Client) Approvals(ctx context.Context, state string) ([]Approval, error) {
	var out []Approval
	return out, c.do(ctx, http.MethodGet, "/api/v1/approvals?state="+url.QueryEscape(state), nil, &out)
}

// Approval returns one held call.
func (c *Client) Approval(ctx context.Context, id string) (Approval, error) {
	var out Approval
	return out, c.do(ctx, http.MethodGet, "/api/v1/approvals/"+url.PathEscape(id), nil, &out)
}

// Decide approves or refuses a held call. With an approval may come a grant for
// a while, such as 1h; "" is none.
func (c *Client) Decide(ctx context.Context, id string, approve bool, comment, grant string) (Approval, error) {
	verb := "deny"
	if approve {
		verb = "approve"
	}
	var out Approval
	return out, c.do(ctx, http.MethodPost, "/api/v1/approvals/"+url.PathEscape(id)+"/"+verb, decision{Comment: comment, Grant: grant}, &out)
}

// Status returns what the process says of itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	return out, c.do(ctx, http.MethodGet, "/api/v1/status", nil, &out)
}

// Audit returns how the audit trail of the process stands.
func (c *Client) Audit(ctx context.Context) (Audit, error) {
	var out Audit
	return out, c.do(ctx, http.MethodGet, "/api/v1/audit", nil, &out)
}

// Erase removes content from the trail, or tells what would be removed.
func (c *Client) Erase(ctx context.Context, ask Erase) (Erased, error) {
	var out Erased
	patient := *c
	patient.http.Timeout = eraseTimeout
	return out, patient.do(ctx, http.MethodPost, "/api/v1/audit/erase", ask, &out)
}

// Unseal asks for what masks changed of a call, as it was.
func (c *Client) Unseal(ctx context.Context, id, reason string) (Unsealed, error) {
	var out Unsealed
	return out, c.do(ctx, http.MethodPost, "/api/v1/calls/"+url.PathEscape(id)+"/unseal", unsealing{Reason: reason}, &out)
}

// eraseTimeout is for an erasure that rewrites many days.
const eraseTimeout = time.Hour

// maxAnswer bounds what the client reads of an answer.
const maxAnswer = 64 << 20

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask %s: %w", c.server, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.server, err)
	}
	req.Header.Set("authorization", "Bearer "+c.token)
	if in != nil {
		req.Header.Set("content-type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask Callgate: %w; is it running, and is --server its listen.console?", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server, err)
	}
	if resp.StatusCode != http.StatusOK {
		var p Problem
		if json.Unmarshal(data, &p) != nil || p.Detail == "" {
			p.Detail = fmt.Sprintf("%s answered %s", c.server, resp.Status)
		}
		return Refused{Status: resp.StatusCode, Detail: p.Detail}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server, err)
	}
	return nil
}
