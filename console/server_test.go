package console

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// desk is an approval service with one hold; err makes it fail.
type desk struct {
	*approvals.Service
	decided []string
	err     error
}

var hold = approvals.Hold{ID: "apr_1", Identity: call.Identity{Issuer: "i", Subject: "alice"}, Terms: call.Hold{Timeout: time.Hour, Grant: 2 * time.Hour,
	Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"finance"}, People: []string{"i|carol"}}, Need: 2}}, BreakGlass: call.Approvers{Groups: []string{"oncall"}}},
	Connection: "crm", Function: "refunds.create", Rule: "big", ArgsJSON: []byte(`{"amount":500}`)}

type noTrail struct{}

func (noTrail) Record(context.Context, call.Event) error { return nil }

func newDesk(t *testing.T, more ...approvals.Hold) *desk {
	t.Helper()
	store := storetest.NewMemory()
	for _, h := range append([]approvals.Hold{hold}, more...) {
		h.AskedAt = time.Now()
		h.Expires = h.AskedAt.Add(time.Hour)
		take := store.Ask
		if h.BreakGlass != "" {
			take = store.Break
		}
		if _, err := take(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	return &desk{Service: approvals.New(approvals.Config{Store: store, Recorder: noTrail{}, Log: slog.New(slog.DiscardHandler), Metrics: approvals.NewMetrics(prometheus.NewRegistry())})}
}

func (d *desk) Decide(ctx context.Context, id string, by call.Identity, a approvals.Answer) (approvals.Hold, error) {
	if d.err != nil {
		return approvals.Hold{}, d.err
	}
	d.decided = append(d.decided, id+" "+by.Subject+" "+map[bool]string{true: "yes", false: "no"}[a.Approve]+" "+a.Comment)
	return d.Service.Decide(ctx, id, by, a)
}

func failing(t *testing.T, err error) *desk {
	d := newDesk(t)
	d.err = err
	return d
}

// people maps tokens to identities.
type people map[string]call.Identity

func (p people) Identify(_ context.Context, h call.Headers) (call.Identity, error) {
	v := h.Values("authorization")
	if len(v) != 1 {
		return call.Identity{}, &identity.Error{Reason: call.ReasonNoCredentials, Message: "no credentials"}
	}
	if v[0] == "Bearer away" {
		return call.Identity{}, &identity.Error{Reason: call.ReasonIdentityUnavailable, Message: "try again later"}
	}
	id, ok := p[strings.TrimPrefix(v[0], "Bearer ")]
	if !ok {
		return call.Identity{}, &identity.Error{Reason: call.ReasonInvalidToken, Message: "not valid"}
	}
	return id, nil
}

// Caller takes a key header, as calls may have one.
func (p people) Caller(ctx context.Context, r identity.Request) (call.Identity, error) {
	if r.Certificate != "" { // of which the name is all that there is here
		text, err := url.QueryUnescape(r.Certificate)
		if err != nil {
			return call.Identity{}, err
		}
		block, _ := pem.Decode([]byte(text))
		return p[string(block.Bytes)], nil
	}
	if key := r.Headers.Get("x-api-key"); key != "" {
		r.Headers = call.Headers{{Name: "authorization", Value: "Bearer " + key}}
	}
	return p.Identify(ctx, r.Headers)
}

var somebody = people{
	"alice":   {Issuer: "i", Subject: "alice"},
	"bob":     {Issuer: "i", Subject: "bob", Groups: []string{"finance"}},
	"carol":   {Issuer: "i", Subject: "carol"},
	"carol2":  {Issuer: "other", Subject: "carol"},
	"mallory": {Issuer: "i", Subject: "mallory", Groups: []string{"sales"}},
	"slow":    {Issuer: "i", Subject: "alice", Scope: call.Scope{"crm"}},
	"narrow":  {Issuer: "i", Subject: "bob", Groups: []string{"finance"}, Scope: call.Scope{"crm"}},
}

func api(t *testing.T, d *desk) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(New(Config{Approvals: d, Identifier: somebody, Callers: somebody, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Status: func() Status {
			return Status{Version: "test", PolicyVersion: "v1", Envoys: []Envoy{{Node: "edge", Version: "v1"}}}
		},
		Audit: func() Audit {
			return Audit{Node: "n", Spool: Spool{ID: "s", Records: 3, Level: 80}, Shipping: &Shipping{ClickHouse: Away, Lag: 1.5}}
		}}).Handler())
	t.Cleanup(s.Close)
	return s
}

// How the trail stands is told to whoever is known, and to nobody else.
func TestAudit(t *testing.T) {
	s := api(t, newDesk(t))
	got, err := NewClient(s.URL, "mallory").Audit(t.Context())
	if err != nil || got.Node != "n" || got.Spool.Level != 80 || got.Shipping.ClickHouse != Away || got.Checkpoint != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for _, token := range []string{"", "nobody"} {
		var refused Refused
		if got, err := NewClient(s.URL, token).Audit(t.Context()); !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized || got.Node != "" {
			t.Errorf("token %q: %+v, %v", token, got, err)
		}
	}
}

// A hold is shown to its approvers and its requester, and to nobody else.
func TestWhoSeesAHold(t *testing.T) {
	s := api(t, newDesk(t))
	for who, sees := range map[string]bool{"alice": true, "bob": true, "carol": true, "carol2": false, "mallory": false} {
		c := NewClient(s.URL, who)
		list, err := c.Approvals(t.Context(), Query{State: "open"})
		if err != nil || (len(list) == 1) != sees {
			t.Errorf("%s lists %v, %v", who, list, err)
		}
		_, err = c.Approval(t.Context(), "apr_1")
		var refused Refused
		if sees != (err == nil) || !sees && (!errors.As(err, &refused) || refused.Status != http.StatusNotFound) {
			t.Errorf("%s is shown it: %v", who, err)
		}
	}
}

func TestTokens(t *testing.T) {
	s := api(t, newDesk(t))
	for token, status := range map[string]int{"": 401, "forged": 401, "away": 503, "narrow": 403} {
		_, err := NewClient(s.URL, token).Status(t.Context())
		var refused Refused
		if !errors.As(err, &refused) || refused.Status != status {
			t.Errorf("%q: %v, want %d", token, err, status)
		}
	}
	if got, err := NewClient(s.URL, "mallory").Status(t.Context()); err != nil || got.Envoys[0].Node != "edge" {
		t.Errorf("%v %v", got, err)
	}
}

func TestDecide(t *testing.T) {
	d := newDesk(t)
	s := api(t, d)
	if _, err := NewClient(s.URL, "bob").Decide(t.Context(), "apr_1", true, Decision{Comment: "fine"}); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(s.URL, "carol").Decide(t.Context(), "apr_1", false, Decision{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.decided, ", "); got != "apr_1 bob yes fine, apr_1 carol no " {
		t.Errorf("decided %q", got)
	}
}

// The service's refusals keep their meaning; its faults tell nothing.
// A state that is misspelt is an error, and no empty list.
func TestStates(t *testing.T) {
	bob := NewClient(api(t, newDesk(t)).URL, "bob")
	for _, s := range append([]approvals.State{""}, approvals.States...) {
		if list, err := bob.Approvals(t.Context(), Query{State: string(s)}); err != nil || (len(list) == 1) != (s == "" || s == approvals.Open) {
			t.Errorf("%q: %v, %v", s, list, err)
		}
	}
	var refused Refused
	if _, err := bob.Approvals(t.Context(), Query{State: "opened"}); !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(refused.Detail, "open, approved, refused, used, expired, canceled, broke_glass") {
		t.Error(err)
	}
}

// Who decides by an id, and is shown the call in the answer, has not seen it before
// deciding; who opens it has.
func TestSeen(t *testing.T) {
	d := newDesk(t)
	bob := NewClient(api(t, d).URL, "bob")
	seen := func() bool {
		h, err := d.Get(t.Context(), "apr_1")
		if err != nil {
			t.Fatal(err)
		}
		return h.Marked(approvals.StepSeen, "i|bob")
	}
	if _, err := bob.Decide(t.Context(), "apr_1", true, Decision{}); err != nil || seen() {
		t.Errorf("%v, seen: %t", err, seen())
	}
	if _, err := bob.Approval(t.Context(), "apr_1"); err != nil || !seen() {
		t.Errorf("%v, seen: %t", err, seen())
	}
}

func TestDecideErrors(t *testing.T) {
	for err, want := range map[error]int{
		approvals.ErrNotFound: 404, approvals.ErrNotApprover: 403, approvals.ErrSelfApproval: 403, approvals.ErrDecided: 409, approvals.ErrExpired: 409,
		approvals.ErrCanceled: 409, approvals.ErrInvalid: 400, errors.New("open /var/secret: disk I/O error"): 503,
	} {
		_, got := NewClient(api(t, failing(t, err)).URL, "bob").Decide(t.Context(), "apr_1", true, Decision{})
		var refused Refused
		if !errors.As(got, &refused) || refused.Status != want || strings.Contains(refused.Detail, "/var/secret") {
			t.Errorf("%v: %v, want %d", err, got, want)
		}
	}
}

// A foreign page in an approver's browser must not be able to decide.
func TestCrossSitePosts(t *testing.T) {
	d := newDesk(t)
	s := api(t, d)
	for name, c := range map[string]struct{ method, contentType, body string }{
		"a form":      {"POST", "application/x-www-form-urlencoded", "comment=x"},
		"plain text":  {"POST", "text/plain", `{"comment":"x"}`},
		"a GET":       {"GET", "application/json", ""},
		"other keys":  {"POST", "application/json", `{"coment":"x"}`},
		"a long body": {"POST", "application/json", `{"comment":"` + strings.Repeat("x", maxComment) + `"}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+"/api/v1/approvals/apr_1/approve", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("content-type", c.contentType)
		req.Header.Set("authorization", "Bearer bob")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 || len(d.decided) > 0 {
			t.Errorf("%s: %s, decided %v", name, resp.Status, d.decided)
		}
	}
}
