package issuer_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/callgate/callgate/demo/issuer"
)

// TestRefused tries to get tokens that the one who asks must not have.
func TestRefused(t *testing.T) {
	t.Parallel()
	users, clients := issuer.DemoUsers(), issuer.DemoClients()
	clients = append(clients, issuer.Client{ID: "other-agent", Secret: "other-agent-demo-secret", Kind: issuer.KindAgent, Exchange: true})
	_, f := start(t, issuer.Config{Users: users, Clients: clients})
	ctx := t.Context()
	alice, bob := mustLogin(t, f, issuer.Alice, alicePassword), mustLogin(t, f, issuer.Bob, bobPassword)
	agent, ci := mustClient(t, f, issuer.SupportAgent, agentSecret), mustClient(t, f, issuer.CIDeploy, ciSecret)
	other := mustClient(t, f, "other-agent", "other-agent-demo-secret")
	forged, err := issuer.Forge(agent.Access)
	if err != nil {
		t.Fatal(err)
	}

	login := func(user, password string) func() error {
		return func() error { _, err := f.Login(ctx, user, password); return err }
	}
	client := func(id, secret string) func() error {
		return func() error { _, err := f.ClientCredentials(ctx, id, secret); return err }
	}
	exchange := func(id, secret, subject, actor string) func() error {
		return func() error { _, err := f.Exchange(ctx, id, secret, subject, actor); return err }
	}
	for name, c := range map[string]struct {
		try  func() error
		want string
	}{
		"wrong password":                     {login(issuer.Alice, "guess"), "user name or password is wrong"},
		"no password":                        {login(issuer.Alice, ""), "user name or password is wrong"},
		"unknown person":                     {login("mallory", ""), "user name or password is wrong"},
		"a client logs in":                   {login(issuer.CIDeploy, ciSecret), "user name or password is wrong"},
		"wrong secret":                       {client(issuer.CIDeploy, "guess"), "invalid_client"},
		"unknown client":                     {client("mallory", ""), "invalid_client"},
		"the public client without a secret": {client(issuer.Desktop, ""), "invalid_client"},
		"exchange by a public client":        {exchange(issuer.Desktop, "", alice.Access, agent.Access), "invalid_client"},
		"exchange by a job":                  {exchange(issuer.CIDeploy, ciSecret, alice.Access, ci.Access), "may not exchange"},
		"exchange without an actor":          {exchange(issuer.SupportAgent, agentSecret, alice.Access, ""), "both required"},
		"a person as the actor":              {exchange(issuer.SupportAgent, agentSecret, alice.Access, bob.Access), "not the client's own"},
		"another client as the actor":        {exchange(issuer.SupportAgent, agentSecret, alice.Access, other.Access), "not the client's own"},
		"an agent that alice did not name":   {exchange("other-agent", "other-agent-demo-secret", alice.Access, other.Access), "may not act for alice"},
		"a person who named no agent":        {exchange(issuer.SupportAgent, agentSecret, bob.Access, agent.Access), "may not act for bob"},
		"acting for a job":                   {exchange(issuer.SupportAgent, agentSecret, ci.Access, agent.Access), "may not act for ci-deploy"},
		"an ID token as the subject":         {exchange(issuer.SupportAgent, agentSecret, alice.ID, agent.Access), "subject_token is not one"},
		"a forged actor":                     {exchange(issuer.SupportAgent, agentSecret, alice.Access, forged), "actor_token is invalid"},
		"another audience": {func() error {
			elsewhere := *f
			elsewhere.Audience = []string{"payroll"}
			_, err := elsewhere.Exchange(ctx, issuer.SupportAgent, agentSecret, alice.Access, agent.Access)
			return err
		}, "invalid_target"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, c.try(), c.want) })
	}
}

// TestLoginPage goes around the helper: what a hostile browser could send.
func TestLoginPage(t *testing.T) {
	t.Parallel()
	i, _ := start(t, issuer.Config{})
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	get := func(path string, cookie *http.Cookie) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if cookie != nil {
			req.AddCookie(cookie)
		}
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	begin := func(redirect, challenge string) *http.Response {
		t.Helper()
		q := url.Values{"client_id": {issuer.Desktop}, "response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {redirect}, "state": {"s"}}
		if challenge != "" {
			q.Set("code_challenge", challenge)
			q.Set("code_challenge_method", "S256")
		}
		return get("/authorize?"+q.Encode(), nil)
	}
	post := func(id string, cookie *http.Cookie) *http.Response {
		t.Helper()
		form := url.Values{"id": {id}, "username": {issuer.Alice}, "password": {alicePassword}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.URL()+"/login", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if cookie != nil {
			req.AddCookie(cookie)
		}
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}

	t.Run("a redirect elsewhere", func(t *testing.T) {
		if resp := begin("https://evil.example/callback", "x"); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("got %s", resp.Status)
		}
	})
	t.Run("the password from another browser", func(t *testing.T) {
		page := begin("http://127.0.0.1:4711/callback", "x").Header.Get("Location")
		id := page[strings.Index(page, "id=")+3:]
		if resp := post(id, nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("without having seen the page: %s", resp.Status)
		}
		get(page, nil)
		if resp := post(id, &http.Cookie{Name: "login", Value: "guess"}); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("with another cookie: %s", resp.Status)
		}
		if resp := get(page, nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("a second browser sees the page: %s", resp.Status)
		}
		if resp := get("/authorize/callback?id="+id, nil); strings.Contains(resp.Header.Get("Location"), "code=") {
			t.Error("a code without a login")
		}
	})
	t.Run("a code without its verifier, and twice", func(t *testing.T) {
		for name, challenge := range map[string]string{"no PKCE": "", "wrong verifier": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"} {
			page := begin("http://127.0.0.1:4711/callback", challenge).Header.Get("Location")
			id := page[strings.Index(page, "id=")+3:]
			back := post(id, get(page, nil).Cookies()[0])
			to := get(strings.TrimPrefix(back.Header.Get("Location"), i.URL()), nil).Header.Get("Location")
			u, err := url.Parse(to)
			if err != nil || u.Query().Get("code") == "" {
				t.Fatalf("%s: no code in %q", name, to)
			}
			redeem := func(verifier string) int {
				form := url.Values{"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")}, "client_id": {issuer.Desktop}, "redirect_uri": {"http://127.0.0.1:4711/callback"}}
				if verifier != "" {
					form.Set("code_verifier", verifier)
				}
				resp, err := http.PostForm(i.URL()+"/oauth/token", form)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				return resp.StatusCode
			}
			if status := redeem(""); status != http.StatusBadRequest {
				t.Errorf("%s: %d", name, status)
			}
			// The verifier of that challenge, from RFC 7636 appendix B; too late.
			if status := redeem("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"); status != http.StatusBadRequest {
				t.Errorf("%s: the code was redeemed after a failed attempt: %d", name, status)
			}
		}
	})
}
