package pages

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/link"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console/login"
	"github.com/callgate/callgate/demo/endpoint"
	"github.com/callgate/callgate/demo/issuer"
	"github.com/callgate/callgate/extauthz/identity"
)

type nobody struct{}

func (nobody) Record(context.Context, call.Event) error { return nil }

// site is the pages before the real approval service and the real demo issuer.
type site struct {
	URL     string
	store   *storetest.Memory
	desk    *approvals.Service
	links   *link.Signer
	issuer  *issuer.Issuer
	client  *http.Transport
	reviews []string
	grants  time.Duration
	// decideErr fails a decision that was taken.
	decideErr error
}

func newSite(t *testing.T) *site {
	t.Helper()
	ca, err := endpoint.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	config, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM())
	s := &site{store: storetest.NewMemory(), client: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	mux := http.NewServeMux()
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = config
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	carl := issuer.User{Name: "carl", Password: "carl-demo-password", Groups: []string{"leads"}}
	s.issuer, err = issuer.New(issuer.Config{TLS: config.Clone(), Users: append(issuer.DemoUsers(), carl), Clients: []issuer.Client{{ID: "console", Secret: "console-secret-of-tests", Redirects: []string{srv.URL + "/login/callback"}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.issuer.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	log := slog.New(slog.DiscardHandler)
	client := &http.Client{Transport: s.client}
	v, err := identity.New(identity.Config{Log: log, Metrics: identity.NewMetrics(prometheus.NewRegistry()), Issuers: []identity.Issuer{{
		Name: "demo", URL: s.issuer.URL(), Audiences: []string{"callgate"}, Algorithms: []string{"RS256"}, Subject: "sub", Groups: "groups", Kind: "kind", DefaultKind: call.Human, Client: client}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte("k"), 32)
	if s.links, err = link.New(srv.URL, key); err != nil {
		t.Fatal(err)
	}
	s.desk = approvals.New(approvals.Config{Store: s.store, Recorder: nobody{}, Log: log, Metrics: approvals.NewMetrics(prometheus.NewRegistry())})
	p, err := New(Config{URL: srv.URL, Desk: s.desk, Links: s.links, Log: log,
		Decide: func(ctx context.Context, id string, by call.Identity, a approvals.Answer) error {
			_, err := s.desk.Decide(ctx, id, by, a)
			return cmp.Or(err, s.decideErr)
		},
		Review: func(ctx context.Context, id string, by call.Identity, justified bool, comment string) error {
			s.reviews = append(s.reviews, id+" "+by.Subject+" "+comment)
			_, err := s.store.Judge(ctx, id, approvals.Review{By: approvals.PersonOf(by), Justified: justified, Comment: comment, At: time.Now()})
			return err
		},
		Grants: func(*approvals.Hold, call.Identity) time.Duration { return s.grants },
		Login: login.Config{URL: srv.URL, Issuer: s.issuer.URL(), ClientID: "console", Secret: func() (string, error) { return "console-secret-of-tests", nil }, Client: client,
			Verify: func(ctx context.Context, idToken, nonce string) (call.Identity, error) {
				return v.Login(ctx, idToken, identity.Login{Issuer: s.issuer.URL(), Client: "console", Nonce: nonce})
			},
			Admit: v.Admit, Key: key, Log: log}})
	if err != nil {
		t.Fatal(err)
	}
	p.Routes(mux)
	return s
}

// hold keeps a call that bob's group is asked about, by default alice's.
func (s *site) hold(t *testing.T, id string, change ...func(*approvals.Hold)) approvals.Hold {
	t.Helper()
	h := storetest.NewHold(t, id, time.Now())
	h.Identity = call.Identity{Issuer: s.issuer.URL(), Subject: "alice", Kind: call.Human, Groups: []string{"support"}}
	h.Terms = call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"finance"}}}}}
	h.Request.ContentEncoding, h.Request.Body = "", []byte(`{"amount":150,"password":"s3cr3t"}`)
	h.ArgsJSON = h.Request.Body
	for _, f := range change {
		f(&h)
	}
	c, err := s.store.Ask(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return c.Hold
}

// browser is somebody's browser.
type browser struct {
	*http.Client
	s *site
	t *testing.T
}

var loginID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// as logs somebody in by opening a page.
func (s *site) as(t *testing.T, user string) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := browser{&http.Client{Transport: s.client, Jar: jar}, s, t}
	if user == "" {
		return b
	}
	_, body := b.get("/approvals")
	m := loginID.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no login form: %s", body)
	}
	resp, err := b.PostForm(s.issuer.URL()+"/login", url.Values{"id": {html.UnescapeString(m[1])}, "username": {user}, "password": {user + "-demo-password"}})
	if status, body := b.read(resp, err); status != 200 || !strings.Contains(body, ">Log out<") {
		t.Fatalf("%d %s", status, body)
	}
	return b
}

func (b browser) read(resp *http.Response, err error) (int, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (b browser) get(path string) (int, string) {
	b.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.s.URL + path
	}
	resp, err := b.Get(path)
	return b.read(resp, err)
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// form is what the decision form of a page would send.
func form(page string) url.Values {
	i := strings.Index(page, `action="/approvals/`)
	out := url.Values{}
	if i < 0 {
		return out
	}
	for _, m := range hiddenField.FindAllStringSubmatch(page[i:], -1) {
		out.Set(m[1], html.UnescapeString(m[2]))
	}
	return out
}

func (b browser) post(path string, f url.Values, headers ...string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.s.URL+path, strings.NewReader(f.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("content-type", "application/x-www-form-urlencoded")
	req.Header.Set("origin", b.s.URL)
	req.Header.Set("sec-fetch-site", "same-origin")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.Do(req)
	return b.read(resp, err)
}

func (s *site) state(t *testing.T, id string) approvals.Hold {
	t.Helper()
	h, err := s.store.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// From a link in a message to a decision: a login, the page, the confirmation, and
// only then the decision.
func TestDecide(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		id, decision string
		want         approvals.State
		says         string
	}{{"apr_1", "approve", approvals.Approved, "Your approval is recorded."}, {"apr_2", "deny", approvals.Refused, "Your refusal is recorded."}} {
		s.hold(t, c.id)
		b := s.as(t, "bob")
		if status, body := b.get("/approvals"); status != 200 || !strings.Contains(body, `href="/approvals/`+c.id+`"`) {
			t.Fatalf("list: %d %s", status, body)
		}
		status, page := b.get(s.links.To(c.id, time.Now().Add(time.Hour)))
		if status != 200 || strings.Contains(page, "s3cr3t") || !strings.Contains(page, "[hidden]") {
			t.Fatalf("%d %s", status, page)
		}
		f := form(page)
		f.Set("decision", c.decision)
		f.Set("comment", " because\r\n<b>so</b> ")
		status, confirm := b.post("/approvals/"+c.id+"/confirm", f)
		if status != 200 || s.state(t, c.id).State != approvals.Open || !strings.Contains(confirm, "&lt;b&gt;so&lt;/b&gt;") || strings.Contains(confirm, "s3cr3t") {
			t.Fatalf("%d %s", status, confirm)
		}
		f = form(confirm)
		f.Set("decision", c.decision)
		status, page = b.post("/approvals/"+c.id+"/decide", f)
		h := s.state(t, c.id)
		last, _ := h.Last()
		if status != 200 || h.State != c.want || last.Comment != "because\n<b>so</b>" || last.By.Subject != "bob" || !strings.Contains(page, c.says) {
			t.Errorf("%d, %s by %+v: %s", status, h.State, last, page)
		}
		if !h.Marked(approvals.StepSeen, s.issuer.URL()+"|bob") {
			t.Error("that bob has seen it is not on record")
		}
	}
}

// The sum of a body stands there only where nothing of it is hidden, and a body that
// can't be shown without credentials is not shown, which is said on both pages.
func TestBodies(t *testing.T) {
	s := newSite(t)
	b := s.as(t, "bob")
	for _, c := range []struct {
		id, body, args, encoding string
		sum, withheld            bool
	}{
		{"apr_plain", `{"a":1}`, `{"a":1}`, "", true, false},
		{"apr_secret", `{"password":"s3cr3t"}`, `{"password":"s3cr3t"}`, "", false, false},
		{"apr_packed", "a, packed", `{"a":1}`, "gzip", true, false},
		{"apr_packedsecret", "s3cr3t, packed", `{"password":"s3cr3t"}`, "gzip", false, true},
	} {
		s.hold(t, c.id, func(h *approvals.Hold) {
			h.Request.Body, h.ArgsJSON, h.Request.ContentEncoding = []byte(c.body), []byte(c.args), c.encoding
		})
		_, page := b.get("/approvals/" + c.id)
		f := form(page)
		f.Set("decision", "approve")
		_, confirm := b.post("/approvals/"+c.id+"/confirm", f)
		for name, text := range map[string]string{"page": page, "confirm": confirm} {
			if strings.Contains(text, "SHA-256") != c.sum || strings.Contains(text, "The body is not shown") != c.withheld ||
				strings.Contains(text, "s3cr3t") || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(c.body))) != (c.encoding != "" && !c.withheld) {
				t.Errorf("%s: the %s: %s", c.id, name, text)
			}
		}
	}
}

// Opening anything decides nothing, whoever opens it and however it is written.
func TestNothingDecidesByGET(t *testing.T) {
	s := newSite(t)
	s.hold(t, "apr_1")
	b := s.as(t, "bob")
	_, page := b.get("/approvals/apr_1")
	f := form(page)
	f.Set("decision", "approve")
	for _, path := range []string{"/a/apr_1", "/approvals/apr_1", "/approvals/apr_1/confirm", "/approvals/apr_1/decide", "/approvals/apr_1/approve", "/approvals/apr_1/review"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
			req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path+"?"+f.Encode(), strings.NewReader(f.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("content-type", "application/x-www-form-urlencoded")
			req.Header.Set("x-http-method-override", "POST")
			resp, err := b.Do(req)
			b.read(resp, err)
			if got := s.state(t, "apr_1"); got.State != approvals.Open || len(got.Verdicts) > 0 {
				t.Fatalf("%s %s decided", method, path)
			}
		}
	}
	// A form in the query of a POST is none.
	if status, _ := b.post("/approvals/apr_1/decide?"+f.Encode(), url.Values{}); status < 400 || s.state(t, "apr_1").State != approvals.Open {
		t.Errorf("%d", status)
	}
}

// Links that were changed, have expired, or were passed on; a further one is a line.
func TestLinks(t *testing.T) {
	s := newSite(t)
	s.hold(t, "apr_1")
	good := s.links.To("apr_1", time.Now().Add(time.Hour))
	for name, c := range map[string]struct {
		who, link string
		status    int
		says      string
	}{
		"an approver":              {"bob", good, 200, "refunds.create"},
		"the caller":               {"alice", good, 200, "nobody decides about a call of their own"},
		"passed on to a stranger":  {"carl", good, 404, "There is no such approval"},
		"expired":                  {"bob", s.links.To("apr_1", time.Now().Add(-time.Second)), 410, "The link has expired"},
		"another approval":         {"bob", strings.Replace(good, "apr_1", "apr_2", 1), 404, "no link of this gateway"},
		"of nothing":               {"bob", s.links.To("apr_9", time.Now().Add(time.Hour)), 404, "There is no such approval"},
		"unsigned":                 {"bob", s.URL + "/a/apr_1", 404, "no link of this gateway"},
		"leading elsewhere":        {"bob", strings.Replace(good, "/a/apr_1", "/a/%2f%2fevil.example", 1), 404, "no link of this gateway"},
		"a path that climbs":       {"bob", strings.Replace(good, "/a/apr_1", "/a/..%2f..%2fapr_1", 1), 404, ""},
		"without a login, forged":  {"", s.URL + "/a/apr_1?e=1&s=x", 404, "no link of this gateway"},
		"without a login, of none": {"", s.links.To("apr_9", time.Now().Add(time.Hour)), 200, "User name"},
		"without a login":          {"", good, 200, "User name"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := s.as(t, c.who).get(c.link)
			if status != c.status || !strings.Contains(html.UnescapeString(body), c.says) {
				t.Errorf("%d %s", status, body)
			}
			if c.who != "bob" && strings.Contains(body, "decide about this") && strings.Contains(body, "Approve…") {
				t.Error("offers a decision")
			}
		})
	}
}

// Forms that the same login was not given for just this, or that another site
// sends; a further one is a line.
func TestForgedForms(t *testing.T) {
	s := newSite(t)
	s.hold(t, "apr_1")
	other := s.hold(t, "apr_2")
	b := s.as(t, "bob")
	_, page := b.get("/approvals/apr_1")
	_, elsewhere := b.get("/approvals/" + other.ID)
	_, again := s.as(t, "bob").get("/approvals/apr_1") // another login of the same person
	good := form(page)
	good.Set("decision", "approve")
	with := func(name, value string) url.Values {
		f := url.Values{}
		for k, v := range good {
			f[k] = v
		}
		f.Set(name, value)
		return f
	}
	for name, c := range map[string]struct {
		f       url.Values
		headers []string
		status  int
	}{
		"from another site":        {good, []string{"sec-fetch-site", "cross-site", "origin", "https://evil.example"}, 403},
		"from a sibling site":      {good, []string{"sec-fetch-site", "same-site", "origin", "https://evil.gate.example"}, 403},
		"from an older browser":    {good, []string{"sec-fetch-site", "", "origin", "https://evil.example"}, 403},
		"from a sandboxed frame":   {good, []string{"sec-fetch-site", "cross-site", "origin", "null"}, 403},
		"from no site that tells":  {with("token", ""), []string{"sec-fetch-site", "", "origin", ""}, 403},
		"no token":                 {with("token", ""), nil, 403},
		"a guessed token":          {with("token", strings.Repeat("A", 43)), nil, 403},
		"of another approval":      {with("token", form(elsewhere).Get("token")), nil, 403},
		"of another login":         {with("token", form(again).Get("token")), nil, 403},
		"of the logout":            {with("token", regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(page)[1]), nil, 403},
		"shown something else":     {with("shown", form(elsewhere).Get("shown")), nil, 422},
		"shown nothing":            {with("shown", ""), nil, 422},
		"no decision":              {with("decision", ""), nil, 422},
		"another decision":         {with("decision", "APPROVE"), nil, 422},
		"a grant that none offers": {with("grant", "1000h0m0s"), nil, 422},
		"too long":                 {with("comment", strings.Repeat("x", maxForm)), nil, 400},
		"control characters":       {with("comment", "a\x1b[2Jb"), nil, 409},
		"a comment beyond bounds":  {with("comment", strings.Repeat("x", 5000)), nil, 409},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := b.post("/approvals/apr_1/decide", c.f, c.headers...)
			if status != c.status || s.state(t, "apr_1").State != approvals.Open {
				t.Errorf("%d, %s: %s", status, s.state(t, "apr_1").State, body)
			}
		})
	}
	// The same form is good where it belongs, so the refusals above were not for
	// something else.
	if status, _ := b.post("/approvals/apr_1/decide", good); status != 200 || s.state(t, "apr_1").State != approvals.Approved {
		t.Errorf("%d", status)
	}
	// Who presses twice is told what the first time did, and it was done once.
	if status, body := b.post("/approvals/apr_1/decide", good); status != 200 || !strings.Contains(body, "Your approval is recorded") || len(s.state(t, "apr_1").Verdicts) != 1 {
		t.Errorf("%d %s", status, body)
	}
	// To say something else it is too late.
	if status, body := b.post("/approvals/apr_1/decide", with("decision", "deny")); status != 409 || !strings.Contains(body, "already decided") {
		t.Errorf("%d %s", status, body)
	}
}

// Whoever may not decide can't by sending the form all the same.
func TestNotApprovers(t *testing.T) {
	s := newSite(t)
	h := s.hold(t, "apr_1")
	v, err := s.desk.Show(t.Context(), h.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"alice", "carl"} {
		b := s.as(t, who)
		_, page := b.get("/approvals/apr_1")
		if strings.Contains(page, "Approve…") || s.state(t, h.ID).Marked(approvals.StepSeen, s.issuer.URL()+"|"+who) {
			t.Errorf("%s is offered a decision", who)
		}
		// The token of the session can't be had from a page; as if it could:
		for _, path := range []string{"confirm", "decide"} {
			if status, _ := b.post("/approvals/apr_1/"+path, url.Values{"decision": {"approve"}, "shown": {digest(v)}, "token": {"x"}}); status != 403 && status != 404 {
				t.Errorf("%s %s: %d", who, path, status)
			}
		}
	}
	if s.state(t, h.ID).State != approvals.Open {
		t.Error("decided")
	}
}

// What a caller, a rule or an approver wrote is text on the page and nothing else.
// A further attempt is a line.
func TestInjection(t *testing.T) {
	s := newSite(t)
	b := s.as(t, "bob")
	for i, evil := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'><svg onload=alert(1)>`, `javascript:alert(1)`, `</pre><form action=https://evil.example>`, `</textarea><script>alert(1)</script>`,
		"{{.FormToken}}", "\u202etxt.exe", "a\u200bb", "<!--", "]]>", "&lt;script&gt;", `\u003cscript\u003e`, "\xff\xfe", "<meta http-equiv=refresh content=0;url=https://evil.example>", "<base href=https://evil.example>",
	} {
		id := "apr_x" + string(rune('a'+i))
		args, err := json.Marshal(map[string]any{evil: evil, "list": []string{evil}, "o": map[string]any{evil: evil}})
		if err != nil {
			t.Fatal(err)
		}
		h := s.hold(t, id, func(h *approvals.Hold) {
			h.Message, h.Rule, h.Function, h.Connection, h.PolicyVersion = evil, evil, evil, evil, evil
			h.Identity.Subject, h.Identity.Groups, h.Identity.Actors = evil, []string{evil}, []call.Actor{{Issuer: evil, Subject: evil}}
			h.ArgsJSON, h.Request.Body = args, []byte(evil)
			h.Request.Method, h.Request.Path, h.Request.Authority, h.Request.ContentType = evil, "/"+evil, evil, evil
			h.Terms.Stages[0].People = []string{evil}
			h.Terms.Stages[0].Need = 2
		})
		if _, err := s.store.Decide(t.Context(), h.ID, approvals.Verdict{Approve: true, By: approvals.Person{Issuer: evil, Subject: evil}, Comment: evil, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		_, list := b.get("/approvals?show=all")
		_, page := b.get("/approvals/" + id)
		f := form(page)
		f.Set("decision", "approve")
		f.Set("comment", strings.TrimLeft(evil, "\u202ea\u200b")) // one's own form keeps what one wrote
		_, confirm := b.post("/approvals/"+id+"/confirm", f)
		f.Set("decision", "")
		_, again := b.post("/approvals/"+id+"/confirm", f)
		for name, body := range map[string]string{"list": list, "page": page, "confirm": confirm, "again": again} {
			if !strings.Contains(body, "</html>") {
				t.Errorf("%q: no %s: %s", evil, name, body)
			}
			for _, bad := range []string{"<script", "<img", "<svg onload", "<meta http-equiv=r", "<base", "evil.example>", "href=\"javascript", "\u202e", "\u200b", "<!--"} {
				if strings.Contains(body, bad) {
					t.Errorf("%q: %q in the %s", evil, bad, name)
				}
			}
		}
	}
}

// What browsers are told about every page.
func TestHeaders(t *testing.T) {
	s := newSite(t)
	s.hold(t, "apr_1")
	b := s.as(t, "bob")
	for _, path := range []string{"/approvals", "/approvals/apr_1", "/approvals/none", "/a/x", "/assets/style.css", "/login/callback", "/approvals/apr_1/none", "/reviews"} {
		resp, err := b.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		csp := resp.Header.Get("content-security-policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") || resp.Header.Get("x-frame-options") != "DENY" || resp.Header.Get("x-content-type-options") != "nosniff" ||
			resp.Header.Get("strict-transport-security") == "" || resp.Header.Get("referrer-policy") == "" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if cache := resp.Header.Get("cache-control"); (cache == "no-store") == strings.HasPrefix(path, "/assets") {
			t.Errorf("%s: cache %q", path, cache)
		}
	}
	// No page asks for anything from elsewhere, and none has a style or script in it.
	_, page := b.get("/approvals/apr_1")
	for _, m := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[1], "/") && !strings.HasPrefix(m[1], "#") {
			t.Errorf("leads to %s", m[1])
		}
	}
	if strings.Contains(page, "style=") || strings.Contains(page, "<script") || strings.Contains(page, "onclick") {
		t.Error("has a style or script in it")
	}
}

// Several people, in order; a reason that the rule wants; a grant that goes along.
func TestTerms(t *testing.T) {
	s := newSite(t)
	s.grants = time.Hour
	s.hold(t, "apr_1", func(h *approvals.Hold) {
		h.Terms.Reason = true
		h.Terms.Stages = []call.Stage{{Approvers: call.Approvers{Groups: []string{"leads"}}}, {Approvers: call.Approvers{Groups: []string{"finance"}}}}
	})
	bob, carl := s.as(t, "bob"), s.as(t, "carl")
	_, page := bob.get("/approvals/apr_1")
	if f := form(page); f.Get("shown") == "" {
		t.Fatal("bob can't refuse, who is asked later")
	}
	_, page = carl.get("/approvals/apr_1")
	f := form(page)
	f.Set("decision", "approve")
	if status, body := carl.post("/approvals/apr_1/confirm", f); status != 422 || !strings.Contains(body, "the rule wants a reason") {
		t.Errorf("%d %s", status, body)
	}
	f.Set("comment", "known customer")
	f.Set("grant", "1h0m0s")
	f.Set("bounds", `call.args.amount < 200`)
	status, confirm := carl.post("/approvals/apr_1/confirm", f)
	if text := html.UnescapeString(confirm); status != 200 || !strings.Contains(text, "Others must approve too") || !strings.Contains(text, "for an hour, while call.args.amount < 200") {
		t.Errorf("%d %s", status, text)
	}
	f = form(confirm)
	f.Set("decision", "approve")
	status, page = carl.post("/approvals/apr_1/decide", f)
	h := s.state(t, "apr_1")
	last, _ := h.Last()
	if status != 200 || h.State != approvals.Open || last.Grant.For != time.Hour || last.Grant.Bounds != "call.args.amount < 200" || !strings.Contains(page, "Others must approve too") {
		t.Errorf("%d %+v %s", status, last, page)
	}
	if form(page).Get("shown") != "" || !strings.Contains(page, "You have approved this call. Others must approve too") {
		t.Errorf("carl is asked again: %s", page)
	}
}

// An approver sees what is not as it was the last time.
func TestDifference(t *testing.T) {
	s := newSite(t)
	first := s.hold(t, "apr_1")
	if _, err := s.store.Decide(t.Context(), first.ID, approvals.Verdict{Approve: true, By: approvals.Person{Issuer: "i", Subject: "bob"}, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	s.hold(t, "apr_2", func(h *approvals.Hold) {
		h.AskedAt = h.AskedAt.Add(time.Second)
		h.Request.Body = []byte(`{"amount":15000,"password":"s3cr3t-2","note":"<b>"}`)
		h.ArgsJSON = h.Request.Body
	})
	_, page := s.as(t, "bob").get("/approvals/apr_2")
	for _, want := range []string{`href="/approvals/apr_1"`, "<code>150</code>", "<code>15000</code>", "not there"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}
	if strings.Contains(page, "s3cr3t") || strings.Contains(page, "<b>") {
		t.Errorf("%s", page)
	}
}

// Many newer calls of others hide none that waits for somebody, and an address
// tells of no decision that was not made.
func TestFloodAndFalseNotice(t *testing.T) {
	s := newSite(t)
	mine := s.hold(t, "apr_mine")
	for i := range listMost + 50 {
		s.hold(t, fmt.Sprintf("apr_%d", i), func(h *approvals.Hold) {
			h.AskedAt = mine.AskedAt.Add(time.Second)
			h.Terms.Stages = []call.Stage{{Approvers: call.Approvers{Groups: []string{"others"}}}}
		})
	}
	b := s.as(t, "bob")
	if _, body := b.get("/approvals"); !strings.Contains(body, "/approvals/apr_mine") {
		t.Error("what waits for bob is not in his list")
	} else if strings.Contains(body, "These are the newest") {
		t.Error("one call is a part of them")
	}
	for i := range listMost {
		s.hold(t, fmt.Sprintf("apr_more_%d", i))
	}
	if _, body := b.get("/approvals"); !strings.Contains(body, "These are the newest 200.") {
		t.Error("that there are more is not told")
	}
	for _, done := range []string{"approved", "refused", "reviewed"} {
		if _, body := b.get("/approvals/apr_mine?done=" + done); strings.Contains(body, "is recorded.") {
			t.Errorf("%s: a decision is told that was not made", done)
		}
	}
}

// Calls that broke glass are looked at afterwards.
func TestReviews(t *testing.T) {
	s := newSite(t)
	h := storetest.NewHold(t, "apr_1", time.Now())
	h.State, h.BreakGlass, h.Terms = approvals.BrokeGlass, "the <database> is on fire", call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"finance"}}}}}
	if _, err := s.store.Break(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	b := s.as(t, "bob")
	if _, body := b.get("/reviews"); !strings.Contains(body, "/approvals/apr_1") {
		t.Fatal(body)
	}
	_, page := b.get("/approvals/apr_1")
	if !strings.Contains(page, "the &lt;database&gt; is on fire") || !strings.Contains(page, "was not asked; any of them reviews") || !strings.Contains(page, `href="/reviews" aria-current="page"`) {
		t.Error(page)
	}
	f := form(page)
	f.Set("comment", "it was")
	f.Set("verdict", "justified")
	if status, body := b.post("/approvals/apr_1/review", f); status != 200 || !strings.Contains(body, "Your review is recorded") || len(s.reviews) != 1 || s.reviews[0] != "apr_1 bob it was" {
		t.Errorf("%d %q %s", status, s.reviews, body)
	}
	f.Set("token", "x")
	if status, _ := b.post("/approvals/apr_1/review", f); status != 403 || len(s.reviews) != 1 {
		t.Errorf("%d %q", status, s.reviews)
	}
}

// A decision that stands is shown as one, also where something after it failed; the
// page tells what it waits for then.
func TestDecisionStandsWithAnError(t *testing.T) {
	s := newSite(t)
	s.hold(t, "apr_1", func(h *approvals.Hold) { h.Terms.Wait, h.Terms.Valid = call.WaitRetry, time.Minute })
	b := s.as(t, "bob")
	_, page := b.get("/approvals/apr_1")
	f := form(page)
	f.Set("decision", "approve")
	s.decideErr = io.ErrUnexpectedEOF
	status, page := b.post("/approvals/apr_1/decide", f)
	if status != 200 || s.state(t, "apr_1").State != approvals.Approved || !strings.Contains(page, "Your approval is recorded") || !strings.Contains(page, "Waits for its caller to make the call again, until") {
		t.Errorf("%d %s", status, page)
	}
}

func TestStoreAway(t *testing.T) {
	s := newSite(t)
	s.hold(t, "apr_1")
	b := s.as(t, "bob")
	s.store.Fail(io.ErrUnexpectedEOF)
	for _, path := range []string{"/approvals", "/approvals/apr_1", "/reviews"} {
		if status, body := b.get(path); status != 503 || strings.Contains(body, io.ErrUnexpectedEOF.Error()) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestLayOut(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"b":"x","c":null,"d":1.50,"e":true}`: "a=1 b=\"x\" c=null d=1.50 e=true ",
		`{"b":{"x":1},"a":[1]}`:                      "b=[{\n  \"x\": 1\n}] a=[[\n  1\n]] ",
		`{"a":[],"b":{}}`:                            "a=[] b={} ",
		`{"a":"x\ny"}`:                               "a=[\"x\\ny\"] ",
		`[1]`:                                        "", `1`: "", ``: "", `{`: "", `{"a":`: "", `{"\u202ea":1}`: `\u{202e}a=1 `,
	} {
		var got strings.Builder
		for _, a := range layOut(text) {
			if a.Block {
				a.Value = "[" + a.Value + "]"
			}
			got.WriteString(a.Name + "=" + a.Value + " ")
		}
		if got.String() != want {
			t.Errorf("%s: %q, want %q", text, got.String(), want)
		}
	}
}

func FuzzLayOut(f *testing.F) {
	f.Add(`{"a":1}`)
	f.Add(`{"a":{"b":["\u202e"]},"a":2}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range layOut(text) {
			if a.Name != approvals.Visible(a.Name) {
				t.Errorf("%q hides something", a.Name)
			}
		}
	})
}

// Times as people read them.
func TestLeft(t *testing.T) {
	now := time.Unix(0, 0)
	for d, want := range map[time.Duration]string{-1: "no time", 0: "no time", 59 * time.Second: "59 s", 61 * time.Second: "1 min 1 s", 90 * time.Minute: "1 h 30 min", 50 * time.Hour: "2 d 2 h"} {
		if got := left(now.Add(d), now); got != want {
			t.Errorf("%s: %q", d, got)
		}
	}
}
