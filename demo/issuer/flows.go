package issuer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// redirectURI is where the login ends. Nothing listens there: the code is
// taken from the redirect.
const redirectURI = "http://127.0.0.1/callback"

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// Flows gets tokens from an issuer over HTTP, each by the protocol that its
// kind of caller would use.
type Flows struct {
	Issuer   string       // URL
	HTTP     *http.Client // default: http.DefaultClient
	Audience []string     // what exchanged tokens are asked for; default: "callgate"
	// Public is the client that people log in with; default: [Desktop].
	Public string
}

// Flows of this issuer for callers that trust its certificate by hc; nil for
// an issuer without TLS.
func (i *Issuer) Flows(hc *http.Client) *Flows {
	return &Flows{Issuer: i.url, HTTP: hc, Audience: i.audience}
}

// Token is what an issuer gave. It never shows in a log.
type Token struct {
	Access  string
	Refresh string // empty where there is none
	ID      string // empty where there is none
	Expires time.Time
}

// LogValue keeps the tokens out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue("token (hidden)") }

func (f *Flows) http() *http.Client { return cmp.Or(f.HTTP, http.DefaultClient) }

// Endpoints of an issuer, from its discovery document.
type endpoints struct {
	Issuer    string `json:"issuer"`
	Authorize string `json:"authorization_endpoint"`
	Token     string `json:"token_endpoint"`
	Revoke    string `json:"revocation_endpoint"`
}

func (f *Flows) discover(ctx context.Context) (endpoints, error) {
	var e endpoints
	where := strings.TrimSuffix(f.Issuer, "/") + "/.well-known/openid-configuration"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return e, fmt.Errorf("discover %s: %w", f.Issuer, err)
	}
	if err := f.answer(req, &e); err != nil {
		return e, fmt.Errorf("discover %s: %w", f.Issuer, err)
	}
	if e.Issuer != f.Issuer {
		return e, fmt.Errorf("discover %s: the document there is of issuer %q", f.Issuer, e.Issuer)
	}
	return e, nil
}

// answer sends a request and decodes the JSON of its answer.
func (f *Flows) answer(req *http.Request, into any) error {
	resp, err := f.http().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode != http.StatusOK {
		var problem struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.NewDecoder(body).Decode(&problem) != nil || problem.Error == "" {
			return fmt.Errorf("the issuer answered %s", resp.Status)
		}
		return fmt.Errorf("the issuer answered %s: %s: %s", resp.Status, problem.Error, problem.Description)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(body).Decode(into)
}

// Login drives the authorization code flow with PKCE as a browser would: the
// login page, its form, and the redirect back with the code.
func (f *Flows) Login(ctx context.Context, user, password string) (Token, error) {
	e, err := f.discover(ctx)
	if err != nil {
		return Token{}, err
	}
	conf := f.public(e)
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	code, err := f.browse(ctx, conf.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier)), state, user, password)
	if err != nil {
		return Token{}, fmt.Errorf("log in as %s at %s: %w", user, f.Issuer, err)
	}
	t, err := conf.Exchange(f.oauth(ctx), code, oauth2.VerifierOption(verifier))
	if err != nil {
		return Token{}, fmt.Errorf("redeem the code of %s at %s: %w", user, f.Issuer, err)
	}
	return token(t), nil
}

func (f *Flows) public(e endpoints) *oauth2.Config {
	return &oauth2.Config{
		ClientID: cmp.Or(f.Public, Desktop), RedirectURL: redirectURI,
		Endpoint: oauth2.Endpoint{AuthURL: e.Authorize, TokenURL: e.Token, AuthStyle: oauth2.AuthStyleInParams},
		Scopes:   []string{"openid", "profile", "email", "offline_access"},
	}
}

// browse logs in and returns the code.
func (f *Flows) browse(ctx context.Context, from, state, user, password string) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := *f.http()
	browser.Jar = jar
	browser.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), redirectURI) {
			return http.ErrUseLastResponse
		}
		if len(via) > 5 {
			return errors.New("too many redirects")
		}
		return nil
	}
	page, err := get(ctx, &browser, from)
	if err != nil {
		return "", err
	}
	defer page.Body.Close()
	action, fields, err := loginForm(page)
	if err != nil {
		return "", err
	}
	fields.Set("username", user)
	fields.Set("password", password)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, action, strings.NewReader(fields.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	end, err := browser.Do(req)
	if err != nil {
		return "", err
	}
	defer end.Body.Close()
	if end.StatusCode == http.StatusUnauthorized {
		return "", errors.New("user name or password is wrong")
	}
	back, err := end.Location()
	if err != nil {
		return "", fmt.Errorf("the login ended with %s instead of a redirect to the application", end.Status)
	}
	q := back.Query()
	switch {
	case q.Get("error") != "":
		return "", fmt.Errorf("%s: %s", q.Get("error"), q.Get("error_description"))
	case q.Get("state") != state:
		return "", errors.New("the redirect's state is not the one that was sent")
	}
	return q.Get("code"), nil
}

func get(ctx context.Context, hc *http.Client, from string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	return hc.Do(req)
}

// loginForm finds where the page's form goes and its hidden fields.
func loginForm(page *http.Response) (action string, fields url.Values, err error) {
	if page.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(page.Body, 256))
		return "", nil, fmt.Errorf("no login page, but %s: %s", page.Status, strings.TrimSpace(string(text)))
	}
	doc, err := html.Parse(io.LimitReader(page.Body, maxAnswer))
	if err != nil {
		return "", nil, fmt.Errorf("read the login page: %w", err)
	}
	fields = url.Values{}
	for n := range doc.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "form":
			to, err := page.Request.URL.Parse(attribute(n, "action"))
			if err != nil {
				return "", nil, fmt.Errorf("read the login page: %w", err)
			}
			action = to.String()
		case n.Data == "input" && attribute(n, "type") == "hidden":
			fields.Set(attribute(n, "name"), attribute(n, "value"))
		}
	}
	if action == "" {
		return "", nil, errors.New("there is no form on the login page")
	}
	return action, fields, nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// Refresh gets new tokens for a refresh token, which is used up by it.
func (f *Flows) Refresh(ctx context.Context, refresh string) (Token, error) {
	e, err := f.discover(ctx)
	if err != nil {
		return Token{}, err
	}
	t, err := f.public(e).TokenSource(f.oauth(ctx), &oauth2.Token{RefreshToken: refresh}).Token()
	if err != nil {
		return Token{}, fmt.Errorf("refresh at %s: %w", f.Issuer, err)
	}
	return token(t), nil
}

// ClientCredentials gets a client's own token.
func (f *Flows) ClientCredentials(ctx context.Context, id, secret string) (Token, error) {
	e, err := f.discover(ctx)
	if err != nil {
		return Token{}, err
	}
	conf := clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: e.Token, AuthStyle: oauth2.AuthStyleInHeader}
	t, err := conf.Token(f.oauth(ctx))
	if err != nil {
		return Token{}, fmt.Errorf("client credentials of %s at %s: %w", id, f.Issuer, err)
	}
	return token(t), nil
}

// Exchange gets a token with which the client acts for the subject: subject is
// that one's access token, actor the client's own (RFC 8693).
func (f *Flows) Exchange(ctx context.Context, id, secret, subject, actor string) (Token, error) {
	e, err := f.discover(ctx)
	if err != nil {
		return Token{}, err
	}
	const access = "urn:ietf:params:oauth:token-type:access_token"
	form := url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {subject},
		"subject_token_type": {access},
		"audience":           f.Audience,
	}
	if len(f.Audience) == 0 {
		form.Set("audience", "callgate")
	}
	if actor != "" {
		form.Set("actor_token", actor)
		form.Set("actor_token_type", access)
	}
	var got struct {
		Access  string `json:"access_token"`
		Expires int64  `json:"expires_in"` // seconds
	}
	if err := f.post(ctx, e.Token, id, secret, form, &got); err != nil {
		return Token{}, fmt.Errorf("exchange a token as %s at %s: %w", id, f.Issuer, err)
	}
	return Token{Access: got.Access, Expires: time.Now().Add(time.Duration(got.Expires) * time.Second)}, nil
}

// Revoke makes a client's token inactive.
func (f *Flows) Revoke(ctx context.Context, id, secret, token string) error {
	e, err := f.discover(ctx)
	if err != nil {
		return err
	}
	if err := f.post(ctx, e.Revoke, id, secret, url.Values{"token": {token}}, nil); err != nil {
		return fmt.Errorf("revoke a token of %s at %s: %w", id, f.Issuer, err)
	}
	return nil
}

// post sends a form as a client; one without a secret only says who it is.
func (f *Flows) post(ctx context.Context, to, id, secret string, form url.Values, into any) error {
	if secret == "" {
		form.Set("client_id", id)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if secret != "" {
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	return f.answer(req, into)
}

func (f *Flows) oauth(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, f.http())
}

func token(t *oauth2.Token) Token {
	id, _ := t.Extra("id_token").(string)
	return Token{Access: t.AccessToken, Refresh: t.RefreshToken, ID: id, Expires: t.Expiry}
}
