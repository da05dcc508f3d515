package console

import (
	"bufio"
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

// Approvals lists held calls that concern the token's owner.
func (c *Client) Approvals(ctx context.Context, q Query) ([]Approval, error) {
	var out []Approval
	return out, c.do(ctx, http.MethodGet, "/api/v1/approvals?"+q.values().Encode(), nil, &out)
}

func (q Query) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"state": q.State, "connection": q.Connection, "function": q.Function, "rule": q.Rule, "subject": q.Subject} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Unreviewed {
		v.Set("unreviewed", "true")
	}
	if q.Mine {
		v.Set("mine", "true")
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339))
	}
	return v
}

// Watch tells of held calls that concern the token's owner: those that are open
// first, then each whenever something happens to it, until ctx ends.
func (c *Client) Watch(ctx context.Context, tell func(Approval) error) error {
	patient := *c
	patient.http.Timeout = 0
	resp, err := patient.send(ctx, http.MethodGet, "/api/v1/approvals/watch", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue // it is there
		}
		var a Approval
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return fmt.Errorf("read answer of %s: %w", c.server, err)
		}
		if err := tell(a); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server, err)
	}
	return nil
}

// Review says what was found of a call that broke glass.
func (c *Client) Review(ctx context.Context, id string, r Review) (Approval, error) {
	var out Approval
	return out, c.do(ctx, http.MethodPost, "/api/v1/approvals/"+url.PathEscape(id)+"/review", r, &out)
}

// Delegate lets somebody decide in the token's owner's place.
func (c *Client) Delegate(ctx context.Context, d Delegate) (Delegation, error) {
	var out Delegation
	return out, c.do(ctx, http.MethodPost, "/api/v1/delegations", d, &out)
}

// Delegations lists those that the token's owner gave or has, or everyone's, which
// administrators may see; with all those that are over, too.
func (c *Client) Delegations(ctx context.Context, all, everyone bool) ([]Delegation, error) {
	var out []Delegation
	return out, c.do(ctx, http.MethodGet, fmt.Sprintf("/api/v1/delegations?all=%t&everyone=%t", all, everyone), nil, &out)
}

// Undelegate takes a delegation back.
func (c *Client) Undelegate(ctx context.Context, id string) (Delegation, error) {
	var out Delegation
	return out, c.do(ctx, http.MethodDelete, "/api/v1/delegations/"+url.PathEscape(id), nil, &out)
}

// Approval returns one held call.
func (c *Client) Approval(ctx context.Context, id string) (Approval, error) {
	var out Approval
	return out, c.do(ctx, http.MethodGet, "/api/v1/approvals/"+url.PathEscape(id), nil, &out)
}

// Decide approves or refuses a held call.
func (c *Client) Decide(ctx context.Context, id string, approve bool, d Decision) (Approval, error) {
	verb := "deny"
	if approve {
		verb = "approve"
	}
	var out Approval
	return out, c.do(ctx, http.MethodPost, "/api/v1/approvals/"+url.PathEscape(id)+"/"+verb, d, &out)
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
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server, err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.server, err)
	}
	return nil
}

// send asks; an answer that is not what was asked for is an error.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", c.server, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.server, err)
	}
	req.Header.Set("authorization", "Bearer "+c.token)
	if in != nil {
		req.Header.Set("content-type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Callgate: %w; is it running, and is --server its listen.console?", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", c.server, err)
	}
	var p Problem
	if json.Unmarshal(data, &p) != nil || p.Detail == "" {
		p.Detail = fmt.Sprintf("%s answered %s", c.server, resp.Status)
	}
	return nil, Refused{Status: resp.StatusCode, Detail: p.Detail}
}
