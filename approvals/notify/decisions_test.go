package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

const signing = "8f742231b10e8888abcd99yyyzzz85a5"

// press is what Slack sends when somebody presses a button.
type press struct {
	team, user, value, action, block, reason, respond, kind string
	userTeam                                                string
}

func (p press) body(t testing.TB) string {
	t.Helper()
	payload, err := json.Marshal(map[string]any{"type": p.kind, "team": map[string]any{"id": p.team, "domain": "acme"}, "user": map[string]any{"id": p.user, "username": "ann", "team_id": p.userTeam},
		"api_app_id": "A1", "token": "legacy", "trigger_id": "1.2", "response_url": p.respond,
		"actions": []any{map[string]any{"action_id": p.action, "block_id": p.block, "value": p.value, "type": "button", "action_ts": "1"}},
		"state":   map[string]any{"values": map[string]any{"reason": map[string]any{"reason": map[string]any{"type": "plain_text_input", "value": p.reason}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return "payload=" + url.QueryEscape(string(payload))
}

func sign(body, secret string, at time.Time) http.Header {
	ts := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "v0:%s:%s", ts, body)
	h := http.Header{}
	h.Set("x-slack-request-timestamp", ts)
	h.Set("x-slack-signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	return h
}

// bench is Decisions before the real approval service, and Slack's side of it.
type slackRig struct {
	*Decisions
	store *storetest.Memory
	slack *httptest.Server
	told  chan map[string]any
	press press
}

func newSlackRig(t *testing.T) *slackRig {
	t.Helper()
	r := &slackRig{store: storetest.NewMemory(), told: make(chan map[string]any, 10)}
	r.slack = httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var m map[string]any
		b, _ := io.ReadAll(req.Body)
		_ = json.Unmarshal(b, &m)
		r.told <- m
	}))
	t.Cleanup(r.slack.Close)
	s := service(r.store)
	person := func(subject string, groups ...string) call.Identity {
		return call.Identity{Issuer: "https://idp", Subject: subject, Kind: call.Human, Groups: groups, Method: "slack"}
	}
	r.Decisions = &Decisions{Apps: []*SlackApp{{Target: "other", Secret: text("another-secret")}, {Target: "finance", Secret: text(signing), People: map[string]call.Identity{
		"T01/U0ANN": person("ann", "leads"), "T01/U0JOE": person("joe", "staff"), "T01/U0BOT": person("agent-7", "leads")}}},
		Show: s.Show, Base: r.slack.URL + "/", Client: r.slack.Client(), Log: discard,
		Decide: func(ctx context.Context, id string, by call.Identity, approve bool, comment string) error {
			_, err := s.Decide(ctx, id, by, approvals.Answer{Approve: approve, Comment: comment})
			return err
		}}
	ask(t, r.store, "apr_1", nil)
	v, err := s.Show(t.Context(), "apr_1")
	if err != nil {
		t.Fatal(err)
	}
	r.press = press{team: "T01", user: "U0ANN", value: buttonValue("apr_1", v.BodySHA256), action: "approve", block: "decide", kind: "block_actions", respond: r.slack.URL + "/actions/T01/1/x"}
	return r
}

func (r *slackRig) send(body string, h http.Header) int {
	req := httptest.NewRequest(http.MethodPost, SlackPath, strings.NewReader(body))
	req.Header = h
	h.Set("content-type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	r.Wait()
	return w.Code
}

func (r *slackRig) state(t *testing.T) approvals.State {
	h, err := r.store.Get(t.Context(), "apr_1")
	if err != nil {
		t.Fatal(err)
	}
	return h.State
}

// Slack's own example (docs.slack.dev, verifying requests) has the signature that
// it should have.
func TestSlackSignatureVector(t *testing.T) {
	body := "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	if got := sign(body, "8f742231b10e8888abcd99yyyzzz85a5", time.Unix(1531420618, 0)).Get("x-slack-signature"); got != "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503" {
		t.Errorf("signed %s", got)
	}
}

func TestSlackDecides(t *testing.T) {
	for _, approve := range []bool{true, false} {
		r := newSlackRig(t)
		want, verb := approvals.Approved, "Approved"
		if !approve {
			r.press.action, want, verb = "deny", approvals.Refused, "Refused"
		}
		r.press.reason = "as <agreed> "
		body := r.press.body(t)
		if code := r.send(body, sign(body, signing, time.Now())); code != 200 || r.state(t) != want {
			t.Errorf("%d, %s", code, r.state(t))
		}
		h, _ := r.store.Get(t.Context(), "apr_1")
		if v, _ := h.Last(); v.By.String() != "https://idp|ann" || v.Comment != "as <agreed>" {
			t.Errorf("verdict %+v", v)
		}
		if m := <-r.told; m["replace_original"] != true || !strings.HasPrefix(m["text"].(string), verb+" by ann: refunds.create on crm by agent-7 through bot") {
			t.Errorf("told %v", m)
		}
	}
}

// Attempts to decide through Slack without the right to; a further one is a line.
func TestSlackRefuses(t *testing.T) {
	now := time.Now()
	elsewhere := make(chan string, 100)
	evil := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere <- r.URL.Path }))
	defer evil.Close()
	with := func(f func(*press)) func(*slackRig) { return func(r *slackRig) { f(&r.press) } }
	for name, c := range map[string]struct {
		change func(*slackRig)
		signed func(body string) http.Header
		status int
		told   string // to the one who pressed; "": nothing is sent to Slack
	}{
		"another secret":  {signed: func(b string) http.Header { return sign(b, "guess", now) }, status: 401},
		"an empty secret": {signed: func(b string) http.Header { return sign(b, "", now) }, status: 401},
		"no signature":    {signed: func(string) http.Header { return http.Header{} }, status: 401},
		"an unsigned scheme": {signed: func(b string) http.Header {
			h := sign(b, signing, now)
			h.Set("x-slack-signature", strings.Replace(h.Get("x-slack-signature"), "v0", "v1", 1))
			return h
		}, status: 401},
		"a cut signature": {signed: func(b string) http.Header {
			h := sign(b, signing, now)
			h.Set("x-slack-signature", h.Get("x-slack-signature")[:20])
			return h
		}, status: 401},
		"another body":    {signed: func(b string) http.Header { return sign(b+"&x=1", signing, now) }, status: 401},
		"six minutes old": {signed: func(b string) http.Header { return sign(b, signing, now.Add(-6*time.Minute)) }, status: 401},
		"from the future": {signed: func(b string) http.Header { return sign(b, signing, now.Add(6*time.Minute)) }, status: 401},
		"another time": {signed: func(b string) http.Header {
			h := sign(b, signing, now.Add(-time.Hour))
			h.Set("x-slack-request-timestamp", strconv.FormatInt(now.Unix(), 10))
			return h
		}, status: 401},
		"no time": {signed: func(b string) http.Header { h := sign(b, signing, now); h.Del("x-slack-request-timestamp"); return h }, status: 401},
		"a time that is none": {signed: func(b string) http.Header {
			h := sign(b, signing, now)
			h.Set("x-slack-request-timestamp", "soon")
			return h
		}, status: 401},
		"unknown user":         {change: with(func(p *press) { p.user = "U0EVE" }), status: 200, told: "does not know you (T01/U0EVE)"},
		"unknown workspace":    {change: with(func(p *press) { p.team = "T02" }), status: 200, told: "does not know you"},
		"guest of a workspace": {change: with(func(p *press) { p.userTeam = "T02" }), status: 200, told: "does not know you (T02/U0ANN)"},
		"user with a slash":    {change: with(func(p *press) { p.team, p.user = "T01/U0ANN", "" }), status: 200, told: "does not know you"},
		"the app of another":   {signed: func(b string) http.Header { return sign(b, "another-secret", now) }, status: 200, told: "does not know you"},
		"not an approver":      {change: with(func(p *press) { p.user = "U0JOE" }), status: 200, told: "not an approver"},
		"the caller":           {change: with(func(p *press) { p.user = "U0BOT" }), status: 200, told: "nobody decides about a call of their own"},
		"other bytes":          {change: with(func(p *press) { p.value = buttonValue("apr_1", strings.Repeat("a", 64)) }), status: 200, told: "there is no such approval with the request"},
		"no bytes":             {change: with(func(p *press) { p.value = "apr_1" }), status: 200, told: "there is no such approval"},
		"another approval":     {change: with(func(p *press) { p.value = strings.Replace(p.value, "apr_1", "apr_2", 1) }), status: 200, told: "there is no such approval"},
		"a long reason":        {change: with(func(p *press) { p.reason = strings.Repeat("x", 5000) }), status: 200, told: "comment"},
		"a reason to be wanted": {change: func(r *slackRig) {
			ask(t, r.store, "apr_3", nil, func(h *approvals.Hold) { h.Terms.Reason = true })
			r.press.value = strings.Replace(r.press.value, "apr_1", "apr_3", 1)
		}, status: 200, told: "wants a reason"},
		"another button":    {change: with(func(p *press) { p.action = "open" }), status: 200},
		"another block":     {change: with(func(p *press) { p.block = "x" }), status: 200},
		"another kind":      {change: with(func(p *press) { p.kind = "view_submission" }), status: 400},
		"an answer address": {change: func(r *slackRig) { r.press.respond, r.press.user = evil.URL+"/x", "U0EVE" }, status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSlackRig(t)
			if c.change != nil {
				c.change(r)
			}
			body := r.press.body(t)
			h := sign(body, signing, now)
			if c.signed != nil {
				h = c.signed(body)
			}
			if code := r.send(body, h); code != c.status || r.state(t) != approvals.Open {
				t.Errorf("%d, %s", code, r.state(t))
			}
			switch {
			case len(elsewhere) > 0:
				t.Errorf("told elsewhere: %s", <-elsewhere)
			case c.told == "" && len(r.told) > 0:
				t.Errorf("told %v", <-r.told)
			case c.told != "":
				if m := <-r.told; m["replace_original"] != false || m["response_type"] != "ephemeral" || !strings.Contains(m["text"].(string), c.told) {
					t.Errorf("told %v, want %q", m, c.told)
				}
			}
		})
	}
}

// What Slack sent once is not taken twice.
func TestSlackReplay(t *testing.T) {
	r := newSlackRig(t)
	r.press.user = "U0JOE" // decides nothing, so that a second time would be tried
	body := r.press.body(t)
	h := sign(body, signing, time.Now())
	if code := r.send(body, h.Clone()); code != 200 {
		t.Fatal(code)
	}
	<-r.told
	if code := r.send(body, h.Clone()); code != 401 || len(r.told) > 0 {
		t.Errorf("again: %d", code)
	}
	h.Set("x-slack-signature", "v0="+strings.ToUpper(strings.TrimPrefix(h.Get("x-slack-signature"), "v0=")))
	if code := r.send(body, h); code != 401 {
		t.Errorf("again in capitals: %d", code)
	}
	// Pressed twice, decided once.
	r.press.user = "U0ANN"
	for i, want := range []bool{true, false} {
		body := r.press.body(t)
		if code := r.send(body, sign(body, signing, time.Now().Add(time.Duration(-i)*time.Second))); code != 200 {
			t.Fatal(code)
		}
		if m := <-r.told; m["replace_original"] != want {
			t.Errorf("told %v", m)
		}
	}
}

func TestBelow(t *testing.T) {
	for to, want := range map[string]bool{
		"https://hooks.slack.com/actions/T1/2/x": true, "https://hooks.slack.com": true,
		"http://hooks.slack.com/x": false, "https://hooks.slack.com.evil.example/": false, "https://hooks.slack.com@evil.example/": false, "https://evil.example/hooks.slack.com": false,
		"https://hooks.slack.com:8443/": false, "//hooks.slack.com/": false, "https:hooks.slack.com": false, "https://hooks.slack.com\\@evil.example/": false, "https://u@hooks.slack.com/": false,
		"": false, " https://hooks.slack.com/": false, "https://hooks.slack.com/\r\nx: y": false,
	} {
		if got := below(to, slackBase); got != want {
			t.Errorf("%q: %v", to, got)
		}
	}
}

func FuzzInteraction(f *testing.F) {
	f.Add([]byte(press{team: "T01", user: "U0ANN", kind: "block_actions", action: "approve", block: "decide"}.body(f)))
	f.Add([]byte("payload={}"))
	f.Add([]byte("payload=%7B%22type%22%3A%22block_actions%22%2C%22actions%22%3Anull%7D"))
	f.Add([]byte("payload=1&payload=2"))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := readInteraction(body)
		if err == nil && in.Type != "block_actions" {
			t.Errorf("took %q", body)
		}
		if err != nil && bytes.Contains([]byte(err.Error()), body) && len(body) > 20 {
			t.Error("the error quotes the body")
		}
	})
}

func FuzzBelow(f *testing.F) {
	f.Add("https://hooks.slack.com/x")
	f.Add("https://hooks.slack.com@evil.example/")
	f.Fuzz(func(t *testing.T, to string) {
		if !below(to, slackBase) {
			return
		}
		req, err := http.NewRequest(http.MethodPost, to, nil)
		if err != nil || req.URL.Host != "hooks.slack.com" || req.URL.Scheme != "https" {
			t.Errorf("%q is asked at %v, %v", to, req, err)
		}
	})
}
