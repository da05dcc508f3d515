package login

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/publicsuffix"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/demo/endpoint"
	"github.com/callgate/callgate/demo/issuer"
	"github.com/callgate/callgate/extauthz/identity"
)

const secret = "console-test-secret-0123456789"

// place is a Login before the real demo issuer, both on TLS, with one page.
type place struct {
	*Login
	URL    string
	issuer *issuer.Issuer
	client *http.Client // trusts both
	log    *bytes.Buffer
	admit  error
	verify *identity.Verifier
	tamper func(r *http.Request) // of requests to the issuer
	mu     sync.Mutex
}

func (p *place) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	if p.tamper != nil {
		p.tamper(r)
	}
	p.mu.Unlock()
	return p.client.Transport.RoundTrip(r)
}

func newPlace(t *testing.T, change ...func(*Config)) *place {
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
	p := &place{client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}, log: &bytes.Buffer{}}
	mux := http.NewServeMux()
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = config
	srv.StartTLS()
	t.Cleanup(srv.Close)
	p.URL = srv.URL
	p.issuer, err = issuer.New(issuer.Config{TLS: config.Clone(), Clients: []issuer.Client{{ID: "console", Secret: secret, Redirects: []string{srv.URL + CallbackPath}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.issuer.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	log := slog.New(slog.NewTextHandler(p.log, nil))
	v, err := identity.New(identity.Config{Log: log, Metrics: identity.NewMetrics(prometheus.NewRegistry()), Issuers: []identity.Issuer{{
		Name: "demo", URL: p.issuer.URL(), Audiences: []string{"callgate"}, Algorithms: []string{"RS256"}, Subject: "sub", Groups: "groups", Kind: "kind", DefaultKind: call.Human, Client: p.client}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := Config{URL: srv.URL, Issuer: p.issuer.URL(), ClientID: "console", Secret: func() (string, error) { return secret, nil }, Client: &http.Client{Transport: p},
		Verify: func(ctx context.Context, idToken, nonce string) (call.Identity, error) {
			return v.Login(ctx, idToken, identity.Login{Issuer: p.issuer.URL(), Client: "console", Nonce: nonce})
		},
		Admit: func(who call.Identity) error {
			if p.admit != nil {
				return p.admit
			}
			return v.Admit(who)
		}, Key: bytes.Repeat([]byte("k"), 32), Log: log,
		Problem: func(w http.ResponseWriter, _ *http.Request, status int, title, detail string) {
			w.WriteHeader(status)
			fmt.Fprintln(w, title+": "+detail)
		}}
	p.verify = v
	for _, f := range change {
		f(&cfg)
	}
	if p.Login, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	p.Routes(mux)
	page := p.Require(func(w http.ResponseWriter, r *http.Request, s Session) {
		if r.Method == http.MethodPost && !s.Holds("page", r.PostFormValue("token")) {
			http.Error(w, "token", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "hello %s of %v at %s token=%s logout=%s", s.Identity.Subject, s.Identity.Groups, r.URL.RequestURI(), s.Token("page"), s.Token(Logout))
	})
	mux.HandleFunc("/page", page)
	mux.HandleFunc("/page/{rest...}", page)
	return p
}

// browser keeps cookies as browsers do. It follows redirects when told to.
func (p *place) browser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: p.client.Transport, Jar: jar}
}

func read(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

var loginID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// loginAt opens a URL, fills the issuer's form in and returns what follows.
func (p *place) loginAt(t *testing.T, b *http.Client, at, user string) (int, string) {
	t.Helper()
	resp, err := b.Get(at)
	_, body := read(t, resp, err)
	m := loginID.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no login form at %s: %s", at, body)
	}
	resp, err = b.PostForm(p.issuer.URL()+"/login", url.Values{"id": {html.UnescapeString(m[1])}, "username": {user}, "password": {user + "-demo-password"}})
	return read(t, resp, err)
}

func noRedirects(b *http.Client) *http.Client {
	c := *b
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

func TestLogin(t *testing.T) {
	p := newPlace(t)
	b := p.browser(t)
	status, body := p.loginAt(t, b, p.URL+"/page?x=1&y=%2f", issuer.Bob)
	if status != 200 || !strings.HasPrefix(body, "hello bob of [refund-approvers finance] at /page?x=1&y=%2f") {
		t.Fatalf("%d %s", status, body)
	}
	// A second page needs no login.
	resp, err := b.Get(p.URL + "/page")
	if status, body := read(t, resp, err); status != 200 || !strings.Contains(body, "bob") {
		t.Errorf("%d %s", status, body)
	}
	// What others can't have read: cookies are sealed, and logs tell no secret.
	u, _ := url.Parse(p.URL)
	for _, c := range b.Jar.Cookies(u) {
		if strings.Contains(c.Value, "bob") {
			t.Errorf("cookie %s can be read", c.Name)
		}
		if strings.Contains(p.log.String(), c.Value) {
			t.Errorf("cookie %s is in the log", c.Name)
		}
	}
	if strings.Contains(p.log.String(), secret) {
		t.Error("the secret is in the log")
	}
	token := regexp.MustCompile(`logout=(\S+)`).FindStringSubmatch(body)[1]
	resp, err = b.PostForm(p.URL+LogoutPath, url.Values{"token": {"forged"}})
	if status, _ := read(t, resp, err); status != 403 {
		t.Errorf("logged out by a foreign form: %d", status)
	}
	resp, err = b.PostForm(p.URL+LogoutPath, url.Values{"token": {token}})
	if status, body := read(t, resp, err); status != 200 || !strings.Contains(body, "logged out") {
		t.Errorf("%d %s", status, body)
	}
	resp, err = noRedirects(b).Get(p.URL + "/page")
	if status, _ := read(t, resp, err); status != 303 {
		t.Errorf("still logged in: %d", status)
	}
}

// How a login is begun: PKCE, state, nonce, and cookies that nothing else can set.
func TestBegin(t *testing.T) {
	p := newPlace(t)
	resp, err := noRedirects(p.browser(t)).Get(p.URL + "/page")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	u, err := url.Parse(resp.Header.Get("location"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) < 43 || len(q.Get("state")) < 43 || len(q.Get("nonce")) < 43 ||
		q.Get("redirect_uri") != p.URL+CallbackPath || q.Get("scope") != "openid" || q.Get("state") == q.Get("nonce") {
		t.Errorf("sent to %s", u)
	}
	if len(resp.Cookies()) != 1 {
		t.Fatalf("cookies %v", resp.Cookies())
	}
	c := resp.Cookies()[0]
	if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 600 {
		t.Errorf("cookie %+v", c)
	}
	if strings.Contains(u.RawQuery, "page") {
		t.Error("where the login leads to is in the URL")
	}
}

// A login ends on this server, wherever it was begun.
func TestReturnPaths(t *testing.T) {
	p := newPlace(t)
	for path, want := range map[string]string{
		"/page/x":                   "/page/x",
		"/page/a%2fb":               "/page/a%2fb",
		"/page/%5cevil.example":     "/page/%5cevil.example",
		"/page?next=//evil.example": "/page?next=//evil.example",
		"/page/..%2f..//x":          "/", // not ours by every reading; the mux has answered it already
	} {
		b := p.browser(t)
		resp, err := noRedirects(b).Get(p.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusTemporaryRedirect || resp.StatusCode == http.StatusMovedPermanently {
			continue // cleaned by the mux
		}
		status, body := p.loginAt(t, b, p.URL+path, issuer.Bob)
		if status != 200 || !strings.Contains(body, " at "+want+" ") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, raw := range []string{"//evil.example/", `/\evil.example/`, "https://evil.example/", "evil.example", "", "/a\tb", "/a\r\nb: c"} {
		u := &url.URL{Path: raw, RawPath: raw}
		if parsed, err := url.Parse(raw); err == nil {
			u = parsed
		}
		if got := local(u); strings.HasPrefix(got, "//") || strings.Contains(got, `\`) || !strings.HasPrefix(got, "/") || strings.ContainsAny(got, "\r\n\t") {
			t.Errorf("%q leads to %q", raw, got)
		}
	}
}

// Attempts to be logged in as somebody, or to log somebody else in; a further
// one is a line.
func TestCallbackRefuses(t *testing.T) {
	p := newPlace(t)
	// begun returns a browser with a login that the issuer has answered, and the
	// callback's URL, not yet opened.
	begun := func(t *testing.T, b *http.Client) *url.URL {
		resp, err := b.Get(p.URL + "/page")
		_, body := read(t, resp, err)
		m := loginID.FindStringSubmatch(body)
		form := url.Values{"id": {html.UnescapeString(m[1])}, "username": {issuer.Bob}, "password": {"bob-demo-password"}}
		at := p.issuer.URL() + "/login"
		c := noRedirects(b)
		resp, err = c.PostForm(at, form)
		for range 5 {
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			next, err2 := resp.Location()
			if err2 != nil {
				t.Fatal(err2)
			}
			if strings.HasPrefix(next.String(), p.URL) {
				return next
			}
			resp, err = c.Get(next.String())
		}
		t.Fatal("no callback")
		return nil
	}
	with := func(u *url.URL, name, value string) string {
		q := u.Query()
		q.Set(name, value)
		return p.URL + CallbackPath + "?" + q.Encode()
	}
	for name, open := range map[string]func(t *testing.T, b *http.Client, u *url.URL) (int, string){
		"in another browser": func(t *testing.T, _ *http.Client, u *url.URL) (int, string) {
			resp, err := p.browser(t).Get(u.String())
			return read(t, resp, err)
		},
		"in a browser with a login of its own": func(t *testing.T, _ *http.Client, u *url.URL) (int, string) {
			other := p.browser(t)
			begun(t, other)
			resp, err := other.Get(u.String())
			return read(t, resp, err)
		},
		"with another's code": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(with(u, "code", begun(t, p.browser(t)).Query().Get("code")))
			return read(t, resp, err)
		},
		"with another state": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(with(u, "state", strings.Repeat("x", 43)))
			return read(t, resp, err)
		},
		"with a state that begins alike": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(with(u, "state", u.Query().Get("state")[:20]))
			return read(t, resp, err)
		},
		"without a state": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(with(u, "state", ""))
			return read(t, resp, err)
		},
		"without a code": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(with(u, "code", ""))
			return read(t, resp, err)
		},
		"from another issuer": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(with(u, "iss", "https://evil.example"))
			return read(t, resp, err)
		},
		"refused by the issuer": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(with(u, "error", "access_denied<script>"))
			return read(t, resp, err)
		},
		"a second time": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			resp, err := b.Get(u.String())
			if status, body := read(t, resp, err); status != 200 {
				t.Fatalf("the first time: %d %s", status, body)
			}
			b.Jar = mustJar(t) // as if the session were over
			resp, err = b.Get(u.String())
			return read(t, resp, err)
		},
		"with another PKCE verifier": func(t *testing.T, b *http.Client, u *url.URL) (int, string) {
			p.mu.Lock()
			p.tamper = func(r *http.Request) {
				if r.Method != http.MethodPost {
					return
				}
				body, _ := io.ReadAll(r.Body)
				form, _ := url.ParseQuery(string(body))
				form.Set("code_verifier", strings.Repeat("v", 43))
				r.Body = io.NopCloser(strings.NewReader(form.Encode()))
				r.ContentLength = int64(len(form.Encode()))
			}
			p.mu.Unlock()
			defer func() { p.mu.Lock(); p.tamper = nil; p.mu.Unlock() }()
			resp, err := b.Get(u.String())
			return read(t, resp, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := p.browser(t)
			status, body := open(t, b, begun(t, b))
			if status < 400 || strings.Contains(body, "hello") || strings.Contains(body, "<script>") {
				t.Errorf("%d %s", status, body)
			}
			u, _ := url.Parse(p.URL)
			for _, c := range b.Jar.Cookies(u) {
				if c.Name == sessionCookie && name != "a second time" {
					t.Error("logged in all the same")
				}
			}
		})
	}
}

func mustJar(t *testing.T) http.CookieJar {
	t.Helper()
	j, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// A session cookie that was not given by this login names nobody, and one that was
// planted before a login is not the one after it.
func TestSessions(t *testing.T) {
	p := newPlace(t)
	other := newPlace(t, func(c *Config) { c.Key = bytes.Repeat([]byte("o"), 32) })
	session := func(t *testing.T, p *place, b *http.Client) string {
		u, _ := url.Parse(p.URL)
		for _, c := range b.Jar.Cookies(u) {
			if c.Name == sessionCookie {
				return c.Value
			}
		}
		t.Fatal("not logged in")
		return ""
	}
	b := p.browser(t)
	p.loginAt(t, b, p.URL+"/page", issuer.Bob)
	mine := session(t, p, b)
	ob := other.browser(t)
	other.loginAt(t, ob, other.URL+"/page", issuer.Bob)
	foreign := session(t, other, ob)
	state, err := p.pending.Encode(sessionCookie, kept{ID: "x", Identity: call.Identity{Subject: "bob"}, Until: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	old, err := p.sessions.Encode(sessionCookie, kept{ID: "x", Identity: call.Identity{Subject: "bob"}, Until: time.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cookies []string
		want    int
	}{
		"as given":            {[]string{mine}, 200},
		"of another gateway":  {[]string{foreign}, 303},
		"cut":                 {[]string{mine[:len(mine)-4]}, 303},
		"changed":             {[]string{"A" + mine[1:]}, 303},
		"two of them":         {[]string{mine, foreign}, 303},
		"two alike":           {[]string{mine, mine}, 303},
		"empty":               {[]string{""}, 303},
		"of another kind":     {[]string{state}, 303},
		"its time is over":    {[]string{old}, 303},
		"no cookie that fits": {[]string{"bob"}, 303},
	} {
		t.Run(name, func(t *testing.T) {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/page", nil)
			for _, v := range c.cookies {
				req.Header.Add("cookie", sessionCookie+"="+v)
			}
			resp, err := noRedirects(&http.Client{Transport: p.client.Transport}).Do(req)
			if status, body := read(t, resp, err); status != c.want {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	t.Run("planted before the login", func(t *testing.T) {
		victim := p.browser(t)
		u, _ := url.Parse(p.URL)
		victim.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: foreign, Path: "/", Secure: true}})
		p.loginAt(t, victim, p.URL+"/page", issuer.Bob)
		if got := session(t, p, victim); got == foreign || got == mine {
			t.Error("the session is a known one")
		}
	})
	t.Run("revoked", func(t *testing.T) {
		p.admit = errors.New("revoked")
		defer func() { p.admit = nil }()
		resp, err := noRedirects(b).Get(p.URL + "/page")
		if status, body := read(t, resp, err); status != 403 || !strings.Contains(body, "revoked") {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("everybody's earlier logins revoked", func(t *testing.T) {
		defer p.verify.Revoke(nil)
		b := p.browser(t)
		p.loginAt(t, b, p.URL+"/page", issuer.Bob)
		revoke := func(before time.Time) int {
			p.verify.Revoke([]identity.Revocation{{Issuer: p.issuer.URL(), IssuedBefore: before}})
			resp, err := noRedirects(b).Get(p.URL + "/page")
			status, _ := read(t, resp, err)
			return status
		}
		if got := revoke(time.Now().Add(-time.Hour)); got != 200 {
			t.Errorf("a later login: %d", got)
		}
		if got := revoke(time.Now().Add(time.Hour)); got != 403 {
			t.Errorf("an earlier login: %d", got)
		}
	})
	t.Run("too many groups", func(t *testing.T) {
		if err := p.keep(httptest.NewRecorder(), call.Identity{Subject: "x", Groups: strings.Fields(strings.Repeat("0123456789abcdef ", 400))}); err == nil {
			t.Error("a cookie that no browser takes")
		}
	})
	t.Run("a form after the session", func(t *testing.T) {
		resp, err := noRedirects(p.browser(t)).PostForm(p.URL+"/page", url.Values{"token": {"x"}})
		if status, body := read(t, resp, err); status != 401 || !strings.Contains(body, "Nothing was done") {
			t.Errorf("%d %s", status, body)
		}
	})
}

// A token of a form is good for its session and purpose alone.
func TestTokens(t *testing.T) {
	a, b := Session{key: []byte("k"), id: "a"}, Session{key: []byte("k"), id: "b"}
	for name, c := range map[string]struct {
		s              Session
		purpose, token string
		want           bool
	}{
		"its own":         {a, "decide 1", a.Token("decide 1"), true},
		"another's":       {a, "decide 1", b.Token("decide 1"), false},
		"another purpose": {a, "decide 1", a.Token("decide 2"), false},
		"none":            {a, "decide 1", "", false},
		"of another key":  {a, "decide 1", Session{key: []byte("l"), id: "a"}.Token("decide 1"), false},
	} {
		if got := c.s.Holds(c.purpose, c.token); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An issuer on https that leads elsewhere, or is away, logs nobody in.
func TestIssuerAway(t *testing.T) {
	p := newPlace(t, func(c *Config) { c.Issuer = "https://127.0.0.1:1" })
	resp, err := p.browser(t).Get(p.URL + "/page")
	if status, body := read(t, resp, err); status != 503 || strings.Contains(body, "127.0.0.1") {
		t.Errorf("%d %s", status, body)
	}
}
