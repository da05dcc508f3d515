package login

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/zitadel/oidc/v3/pkg/client"
	"golang.org/x/oauth2"

	"github.com/callgate/callgate/call"
)

// Config is what a [Login] needs.
type Config struct {
	// URL is where people reach the pages, such as https://callgate.example.com.
	URL string
	// Issuer is the OpenID Connect issuer that is asked.
	Issuer   string
	ClientID string
	// Secret reads the client's secret; an empty one is a public client's.
	Secret func() (string, error)
	// Scopes beside openid.
	Scopes []string
	// Client reaches the issuer.
	Client *http.Client
	// Verify returns whom an ID token names that answers this nonce.
	Verify func(ctx context.Context, idToken, nonce string) (call.Identity, error)
	// Admit refuses whoever has been revoked since the login.
	Admit func(call.Identity) error
	// Key is what cookies are encrypted and signed by, 32 bytes or more.
	Key []byte
	// Lifetime is how long a login holds. Default 1h.
	Lifetime time.Duration
	// Problem answers with a page that says what is wrong and what to do.
	Problem func(w http.ResponseWriter, r *http.Request, status int, title, detail string)
	Log     *slog.Logger
}

// Paths of the login.
const (
	CallbackPath = "/login/callback"
	LogoutPath   = "/logout"
)

// loginTime is how long a login may take at the issuer.
const loginTime = 10 * time.Minute

const defaultLifetime = time.Hour

// Login logs people in.
type Login struct {
	cfg      Config
	sessions *securecookie.SecureCookie
	pending  *securecookie.SecureCookie
	tokens   []byte // keys the tokens of forms

	mu        sync.Mutex // guards all below
	endpoints *endpoints // nil until the issuer has told
}

type endpoints struct {
	oauth2.Endpoint
	read time.Time
}

// New returns a Login. The issuer is asked at the first login, so that a start
// needs no issuer.
func New(cfg Config) (*Login, error) {
	if len(cfg.Key) < 32 {
		return nil, fmt.Errorf("the key of cookies has %d bytes; 32 are needed", len(cfg.Key))
	}
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = defaultLifetime
	}
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	l := &Login{cfg: cfg}
	var err error
	if l.sessions, err = sealed(cfg.Key, "session", cfg.Lifetime); err != nil {
		return nil, err
	}
	if l.pending, err = sealed(cfg.Key, "login", loginTime); err != nil {
		return nil, err
	}
	if l.tokens, err = hkdf.Key(sha256.New, cfg.Key, nil, "callgate/console/form/v1", 32); err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return l, nil
}

// sealed makes the codec of one kind of cookie, with keys of its own.
func sealed(key []byte, purpose string, lifetime time.Duration) (*securecookie.SecureCookie, error) {
	keys, err := hkdf.Key(sha256.New, key, nil, "callgate/console/"+purpose+"/v1", 64)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return securecookie.New(keys[:32], keys[32:]).MaxAge(int(lifetime.Seconds())).SetSerializer(securecookie.JSONEncoder{}), nil
}

// Routes adds the login's own paths.
func (l *Login) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+CallbackPath, l.callback)
	mux.HandleFunc("POST "+LogoutPath, l.logout)
}

// endpointsAge is how long the issuer's endpoints are believed.
const endpointsAge = time.Hour

// config is the OAuth client. The issuer's endpoints are read when they are not
// known, or old; while it is away the old ones serve.
func (l *Login) config(ctx context.Context) (*oauth2.Config, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endpoints == nil || time.Since(l.endpoints.read) > endpointsAge {
		found, err := l.discover(ctx)
		switch {
		case err == nil:
			l.endpoints = &endpoints{Endpoint: found, read: time.Now()}
		case l.endpoints == nil:
			return nil, err
		}
	}
	secret, err := l.cfg.Secret()
	if err != nil {
		return nil, fmt.Errorf("console.login.client_secret: %w", err)
	}
	c := &oauth2.Config{ClientID: l.cfg.ClientID, ClientSecret: secret, Endpoint: l.endpoints.Endpoint,
		RedirectURL: l.cfg.URL + CallbackPath, Scopes: append([]string{"openid"}, l.cfg.Scopes...)}
	if secret == "" {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams // a public client names itself
	}
	return c, nil
}

func (l *Login) discover(ctx context.Context) (oauth2.Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, err := client.Discover(ctx, l.cfg.Issuer, l.cfg.Client)
	if err != nil {
		return oauth2.Endpoint{}, fmt.Errorf("ask issuer %s: %w", l.cfg.Issuer, err)
	}
	// Codes and secrets go there: an issuer on https does not lead elsewhere.
	for name, at := range map[string]string{"authorization_endpoint": d.AuthorizationEndpoint, "token_endpoint": d.TokenEndpoint} {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !strings.HasPrefix(l.cfg.Issuer, "http://")) {
			return oauth2.Endpoint{}, fmt.Errorf("issuer %s: its %s is no https URL", l.cfg.Issuer, name)
		}
	}
	return oauth2.Endpoint{AuthURL: d.AuthorizationEndpoint, TokenURL: d.TokenEndpoint}, nil
}

// Require lets only people through who are logged in. Others who ask for a page
// are sent to the issuer and come back to it; what others send is not taken.
func (l *Login) Require(page func(http.ResponseWriter, *http.Request, Session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := l.session(r)
		switch {
		case err == nil:
			page(w, r, s)
		case errors.Is(err, errRevoked):
			l.forget(w)
			l.cfg.Problem(w, r, http.StatusForbidden, "Your login was revoked", "Those who run this gateway ended it. Ask them, or log in as somebody else.")
		case r.Method == http.MethodGet:
			l.begin(w, r)
		case r.Method == http.MethodHead: // a program that looks ahead
			w.WriteHeader(http.StatusUnauthorized)
		default:
			l.cfg.Problem(w, r, http.StatusUnauthorized, "You are not logged in any more", "Nothing was done. Open the page again, log in, and repeat it.")
		}
	}
}

// attempt is one login under way, kept in a cookie of the browser that began it.
type attempt struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Return   string `json:"r"` // path on this server
}

func (l *Login) begin(w http.ResponseWriter, r *http.Request) {
	c, err := l.config(r.Context())
	if err != nil {
		l.cfg.Log.ErrorContext(r.Context(), "nobody can log in", "error", err)
		l.cfg.Problem(w, r, http.StatusServiceUnavailable, "You can't log in now", "The login service can't be reached. Try again in a while; the log of this service says why.")
		return
	}
	a := attempt{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier(), Return: local(r.URL)}
	name := pendingCookie(a.State)
	value, err := l.pending.Encode(name, a)
	if err != nil { // a URL too long for a cookie
		a.Return = "/"
		if value, err = l.pending.Encode(name, a); err != nil {
			l.cfg.Log.ErrorContext(r.Context(), "a login could not be begun", "error", err)
			l.cfg.Problem(w, r, http.StatusInternalServerError, "You can't log in now", "Try again; the log of this service says why.")
			return
		}
	}
	// Lax: the issuer sends the browser back from another site.
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(loginTime.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.Header().Set("cache-control", "no-store")
	http.Redirect(w, r, c.AuthCodeURL(a.State, oauth2.S256ChallengeOption(a.Verifier), oauth2.SetAuthURLParam("nonce", a.Nonce)), http.StatusSeeOther)
}

// pendingCookie names the cookie of one login, so that two tabs don't end each
// other's.
func pendingCookie(state string) string { return "__Host-callgate-login-" + state[:8] }

// local is the path of a URL on this server, and nothing that leads elsewhere.
func local(u *url.URL) string {
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return path
}

func (l *Login) callback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	again := "Open " + l.cfg.URL + "/ and log in again."
	refused := func(cause string, args ...any) {
		l.cfg.Log.WarnContext(r.Context(), "login refused", append([]any{"cause", cause}, args...)...)
	}
	state := q.Get("state")
	a, ok := l.attempt(r, state)
	if !ok {
		refused("state")
		l.cfg.Problem(w, r, http.StatusBadRequest, "This login was not begun in this browser", "It took too long, was finished already, or was begun elsewhere. "+again)
		return
	}
	l.drop(w, pendingCookie(state))
	// RFC 9207: an issuer that names itself must be the one that was asked.
	if iss := q.Get("iss"); iss != "" && iss != l.cfg.Issuer {
		refused("iss")
		l.cfg.Problem(w, r, http.StatusBadRequest, "Another login service answered", again)
		return
	}
	if code := q.Get("error"); code != "" {
		refused("the issuer refused", "code", plain(code))
		l.cfg.Problem(w, r, http.StatusForbidden, "The login service refused", "It says: "+plain(code)+". "+again)
		return
	}
	c, err := l.config(r.Context())
	if err != nil {
		l.cfg.Log.ErrorContext(r.Context(), "nobody can log in", "error", err)
		l.cfg.Problem(w, r, http.StatusServiceUnavailable, "You can't log in now", "Try again in a while; the log of this service says why.")
		return
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), oauth2.HTTPClient, l.cfg.Client), 15*time.Second)
	defer cancel()
	tokens, err := c.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		refused("the code was not exchanged", "error", told(err))
		l.cfg.Problem(w, r, http.StatusBadGateway, "The login could not be finished", "The login service did not confirm it. "+again)
		return
	}
	idToken, _ := tokens.Extra("id_token").(string)
	who, err := l.cfg.Verify(r.Context(), idToken, a.Nonce)
	if err != nil {
		refused("the ID token", "error", err)
		l.cfg.Problem(w, r, http.StatusForbidden, "You can't log in here", "The login service's answer was not accepted: "+err.Error()+".")
		return
	}
	if err := l.keep(w, who); err != nil {
		l.cfg.Log.ErrorContext(r.Context(), "a login does not fit a cookie", "groups", len(who.Groups), "error", err)
		l.cfg.Problem(w, r, http.StatusForbidden, "You are in too many groups", "They don't fit a browser's cookie. Have the issuer send only the groups of this application.")
		return
	}
	l.cfg.Log.InfoContext(r.Context(), "login", "who", who.Issuer+"|"+who.Subject)
	w.Header().Set("cache-control", "no-store")
	w.Header().Set("referrer-policy", "no-referrer") // the code stays between us
	http.Redirect(w, r, a.Return, http.StatusSeeOther)
}

// attempt finds the login that a state belongs to, in this browser.
func (l *Login) attempt(r *http.Request, state string) (attempt, bool) {
	var a attempt
	if len(state) < 16 {
		return a, false
	}
	name := pendingCookie(state)
	c, err := r.Cookie(name)
	if err != nil || l.pending.Decode(name, c.Value, &a) != nil {
		return a, false
	}
	return a, a.State == state
}

// plain is an OAuth error code, or what is left of something else.
func plain(code string) string {
	keep := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r == '_' {
			return r
		}
		return -1
	}
	return strings.Map(keep, code[:min(len(code), 64)])
}

// told is an error without what the issuer's answer held: that may be a token.
func told(err error) string {
	var refusal *oauth2.RetrieveError
	if errors.As(err, &refusal) && refusal.Response != nil {
		return refusal.Response.Status + " " + plain(refusal.ErrorCode)
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return "its answer can't be read"
}
