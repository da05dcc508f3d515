package issuer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	loginTime   = 10 * time.Minute // from the authorization endpoint to the code's redemption
	refreshTime = 8 * time.Hour
	maxLogins   = 1000 // open at a time
	maxAttempts = 10   // wrong passwords for one login
)

var (
	errUnknownClient = errors.New("unknown client or wrong secret")
	errUnknownLogin  = errors.New("this login is unknown or took too long; start again from the application")
	errNoJWTProfile  = errors.New("assertions signed by clients are not supported")
)

// The library looks for the optional parts by type assertion.
var (
	_ op.Storage                        = (*storage)(nil)
	_ op.ClientCredentialsStorage       = (*storage)(nil)
	_ op.TokenExchangeStorage           = (*storage)(nil)
	_ op.CanGetPrivateClaimsFromRequest = (*storage)(nil)
)

// storage is what the provider remembers. Its maps hold what has not run out:
// each is swept when it has doubled since the last sweep.
type storage struct {
	registry
	audience []string
	keys     *keys

	mu      sync.Mutex // guards all below
	logins  map[string]*authRequest
	codes   map[string]string // code → login's id
	issued  map[string]issued // by jti
	refresh map[string]refreshGrant
	sweepAt int // size of issued that calls for a sweep
}

// issued is an access token that is out.
type issued struct {
	subject, client string
	audience        []string
	scopes          []string
	claims          map[string]any
	at, expires     time.Time
}

func newStorage(r registry, audience []string, k *keys) *storage {
	return &storage{
		registry: r, audience: audience, keys: k,
		logins: map[string]*authRequest{}, codes: map[string]string{},
		issued: map[string]issued{}, refresh: map[string]refreshGrant{}, sweepAt: 1024,
	}
}

// sweep forgets what has run out. The caller holds mu.
func (s *storage) sweep() {
	now := time.Now()
	maps.DeleteFunc(s.issued, func(_ string, t issued) bool { return now.After(t.expires) })
	maps.DeleteFunc(s.refresh, func(_ string, t refreshGrant) bool { return now.After(t.expires) })
	maps.DeleteFunc(s.logins, func(_ string, a *authRequest) bool { return now.After(a.expires) })
	maps.DeleteFunc(s.codes, func(_, id string) bool { return s.logins[id] == nil })
	s.sweepAt = max(1024, 2*(len(s.issued)+len(s.refresh)))
}

func (s *storage) Health(context.Context) error { return nil }

// CreateAuthRequest begins a login.
func (s *storage) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if slices.Contains(r.Prompt, oidc.PromptNone) {
		return nil, oidc.ErrLoginRequired() // nobody stays logged in here
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.logins) >= maxLogins {
		s.sweep()
	}
	if len(s.logins) >= maxLogins {
		return nil, oidc.ErrServerError().WithDescription("too many logins are open; try again later")
	}
	a := &authRequest{
		grant: grant{client: r.ClientID, audience: s.audience, scopes: slices.Clone([]string(r.Scopes))},
		id:    uuid.NewString(), redirectURI: r.RedirectURI, state: r.State, nonce: r.Nonce,
		responseType: r.ResponseType, responseMode: r.ResponseMode, expires: time.Now().Add(loginTime),
	}
	if r.CodeChallenge != "" {
		a.challenge = &oidc.CodeChallenge{Challenge: r.CodeChallenge, Method: r.CodeChallengeMethod}
	}
	s.logins[a.id] = a
	return a.snapshot(), nil
}

// snapshot is what the library gets to see, so that it never reads what
// another request changes.
func (a *authRequest) snapshot() *authRequest {
	c := *a
	c.grant = *a.grant.copy()
	return &c
}

func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.login(id)
	if err != nil {
		return nil, err
	}
	return a.snapshot(), nil
}

// login finds an open login. The caller holds mu.
func (s *storage) login(id string) (*authRequest, error) {
	a := s.logins[id]
	if a == nil || time.Now().After(a.expires) {
		return nil, errUnknownLogin
	}
	return a, nil
}

func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.login(id); err != nil {
		return err
	}
	// One code a login, also when the callback is fetched twice.
	maps.DeleteFunc(s.codes, func(_, other string) bool { return other == id })
	s.codes[code] = id
	return nil
}

// AuthRequestByCode redeems a code: it is gone, whether what follows works
// out or not, and so is the login.
func (s *storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.codes[code]
	if !ok {
		return nil, errors.New("unknown or used code")
	}
	delete(s.codes, code)
	a, err := s.login(id)
	delete(s.logins, id)
	if err != nil {
		return nil, err
	}
	return a.snapshot(), nil
}

func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins, id)
	maps.DeleteFunc(s.codes, func(_, other string) bool { return other == id })
	return nil
}

// CreateAccessToken gives the token its id and its end.
func (s *storage) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	t, err := s.describe(r)
	if err != nil {
		return "", time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remember(t), t.expires, nil
}

// remember keeps an issued token and returns its id. The caller holds mu.
func (s *storage) remember(t issued) string {
	if len(s.issued)+len(s.refresh) >= s.sweepAt {
		s.sweep()
	}
	id := uuid.NewString()
	s.issued[id] = t
	return id
}

// CreateAccessAndRefreshTokens is for logins that asked for offline access and
// for refresh tokens, which are used once: each use makes a new one.
func (s *storage) CreateAccessAndRefreshTokens(_ context.Context, r op.TokenRequest, current string) (string, string, time.Time, error) {
	t, err := s.describe(r)
	if err != nil {
		return "", "", time.Time{}, err
	}
	next := refreshGrant{token: uuid.NewString(), expires: time.Now().Add(refreshTime)}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r := r.(type) {
	case *authRequest:
		next.grant = r.grant.copy()
	case refreshGrant:
		old, ok := s.refresh[current]
		if !ok {
			return "", "", time.Time{}, oidc.ErrInvalidGrant().WithDescription("this refresh token was used already")
		}
		delete(s.refresh, current)
		// The scopes that were granted stay, also when fewer were asked for now.
		next.grant, next.expires = old.grant.copy(), old.expires
	default:
		return "", "", time.Time{}, fmt.Errorf("no refresh tokens for %T", r)
	}
	s.refresh[next.token] = next
	return s.remember(t), next.token, t.expires, nil
}

func (s *storage) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.refresh[token]
	if !ok || time.Now().After(g.expires) {
		return nil, op.ErrInvalidRefreshToken
	}
	g.grant = g.grant.copy()
	return g, nil
}

func (s *storage) GetRefreshTokenInfo(_ context.Context, _, token string) (subject, id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.refresh[token]
	if !ok {
		return "", "", op.ErrInvalidRefreshToken
	}
	return g.subject, token, nil
}

func (s *storage) TerminateSession(_ context.Context, subject, client string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.issued, func(_ string, t issued) bool { return t.subject == subject && t.client == client })
	maps.DeleteFunc(s.refresh, func(_ string, t refreshGrant) bool { return t.subject == subject && t.client == client })
	return nil
}

// RevokeToken makes a token inactive for introspection and exchange. Its
// signature stays good until it runs out: that is the nature of a JWT.
func (s *storage) RevokeToken(_ context.Context, id, _, client string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	access, refresh := s.issued[id], s.refresh[id]
	owner := access.client
	if refresh.grant != nil {
		owner = refresh.client
	}
	if owner == "" {
		return nil // unknown is as good as revoked (RFC 7009 §2.2)
	}
	if owner != client {
		return oidc.ErrInvalidClient().WithDescription("the token was issued to another client")
	}
	delete(s.issued, id)
	delete(s.refresh, id)
	return nil
}

// active finds a token that is out, neither revoked nor past its end.
func (s *storage) active(id string) (issued, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.issued[id]
	return t, ok && time.Now().Before(t.expires)
}

func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	c, ok := s.clients[id]
	if !ok {
		return nil, errUnknownClient
	}
	return registered{c}, nil
}

func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if _, ok := s.authenticate(id, secret); !ok {
		return errUnknownClient
	}
	return nil
}

func (s *storage) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	c, ok := s.authenticate(id, secret)
	if !ok {
		return nil, errUnknownClient
	}
	return registered{c}, nil
}

func (s *storage) ClientCredentialsTokenRequest(_ context.Context, id string, _ []string) (op.TokenRequest, error) {
	return &grant{client: id, subject: id, audience: s.audience, authTime: time.Now()}, nil
}

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return s.keys.signing(), nil }

func (s *storage) KeySet(context.Context) ([]op.Key, error) { return s.keys.public(), nil }

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNoJWTProfile
}

func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNoJWTProfile
}
