package console

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// rolling is how long a push may take: it waits for every server and Envoy.
const rolling = 6 * time.Minute

func (c *Client) patient(limit time.Duration) *Client {
	p := *c
	p.http.Timeout = limit
	return &p
}

// Push makes a policy decide.
func (c *Client) Push(ctx context.Context, in Push) (Rollout, error) {
	var out Rollout
	return out, c.patient(rolling).do(ctx, http.MethodPost, "/api/v1/policy", in, &out)
}

// Rollback makes an earlier version decide again; "" is the one before.
func (c *Client) Rollback(ctx context.Context, in Change) (Rollout, error) {
	var out Rollout
	return out, c.patient(rolling).do(ctx, http.MethodPost, "/api/v1/policy/rollback", in, &out)
}

// EndCanary makes the canary decide for all, or for nobody.
func (c *Client) EndCanary(ctx context.Context, promote bool, in Change) (Rollout, error) {
	verb := "abort"
	if promote {
		verb = "promote"
	}
	var out Rollout
	return out, c.patient(rolling).do(ctx, http.MethodPost, "/api/v1/policy/"+verb, in, &out)
}

// History lists rollouts, the newest first.
func (c *Client) History(ctx context.Context) ([]Rollout, error) {
	var out []Rollout
	return out, c.do(ctx, http.MethodGet, "/api/v1/policy/history", nil, &out)
}

// StoredPolicy returns a policy that was pushed.
func (c *Client) StoredPolicy(ctx context.Context, version string) (Push, error) {
	var out Push
	return out, c.do(ctx, http.MethodGet, "/api/v1/policy/versions/"+url.PathEscape(version), nil, &out)
}

// Grants lists grants; those that ended too, where all is set.
func (c *Client) Grants(ctx context.Context, all bool) ([]Grant, error) {
	var out []Grant
	return out, c.do(ctx, http.MethodGet, "/api/v1/grants"+allOf(all), nil, &out)
}

func allOf(all bool) string {
	if all {
		return "?all=true"
	}
	return ""
}

// GiveGrant gives a grant.
func (c *Client) GiveGrant(ctx context.Context, g Grant) (Grant, error) {
	var out Grant
	return out, c.do(ctx, http.MethodPost, "/api/v1/grants", g, &out)
}

// TakeGrantBack ends a grant, and returns the servers that have not answered.
func (c *Client) TakeGrantBack(ctx context.Context, id, reason string) ([]string, error) {
	return c.end(ctx, "/api/v1/grants/"+url.PathEscape(id), reason)
}

// Revocations lists revocations; those that ended too, where all is set.
func (c *Client) Revocations(ctx context.Context, all bool) ([]Revocation, error) {
	var out []Revocation
	return out, c.do(ctx, http.MethodGet, "/api/v1/revocations"+allOf(all), nil, &out)
}

// Revoke ends the validity of tokens.
func (c *Client) Revoke(ctx context.Context, r Revocation) (Revocation, error) {
	var out Revocation
	return out, c.do(ctx, http.MethodPost, "/api/v1/revocations", r, &out)
}

// Lift takes a revocation back, and returns the servers that have not answered.
func (c *Client) Lift(ctx context.Context, id, reason string) ([]string, error) {
	return c.end(ctx, "/api/v1/revocations/"+url.PathEscape(id), reason)
}

func (c *Client) end(ctx context.Context, path, reason string) ([]string, error) {
	var out struct {
		ID     string   `json:"id"`
		Behind []string `json:"behind"`
	}
	err := c.do(ctx, http.MethodDelete, path+"?reason="+url.QueryEscape(reason), nil, &out)
	return out.Behind, err
}
