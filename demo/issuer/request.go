package issuer

import (
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// grant is what a token is issued on: who asked, for whom, for what.
type grant struct {
	client   string
	subject  string
	audience []string
	scopes   []string
	authTime time.Time

	// described is set once the access token's claims were asked for. What is
	// issued on the same grant after that is the ID token, and that one is
	// for the client alone: a service must not take it for an access token.
	// The library asks for the audience of both in the same way.
	described bool
}

func (g *grant) GetSubject() string { return g.subject }
func (g *grant) GetAudience() []string {
	if g.described {
		return []string{g.client}
	}
	return g.audience
}
func (g *grant) GetScopes() []string    { return g.scopes }
func (g *grant) GetClientID() string    { return g.client }
func (g *grant) GetAuthTime() time.Time { return g.authTime }
func (g *grant) GetAMR() []string       { return []string{"pwd"} }
func (g *grant) describedOnce()         { g.described = true }
func (g *grant) copy() *grant           { c := *g; c.scopes = slices.Clone(g.scopes); return &c }

// describer is a grant that wants to know that its access token is written.
type describer interface{ describedOnce() }

// refreshGrant is a grant that a refresh token stands for.
type refreshGrant struct {
	*grant
	token   string // the refresh token's own id, for revocation
	expires time.Time
}

// SetCurrentScopes is what the library tells a refresh by from other requests:
// a plain grant must not have it.
func (g refreshGrant) SetCurrentScopes(sub []string) { g.scopes = sub }

// authRequest is one login under way, from the authorization endpoint to the
// redemption of the code.
type authRequest struct {
	grant
	id           string
	redirectURI  string
	state        string
	nonce        string
	responseType oidc.ResponseType
	responseMode oidc.ResponseMode
	challenge    *oidc.CodeChallenge
	expires      time.Time
	done         bool   // somebody logged in
	browser      string // the cookie that binds the login page to one browser
	attempts     int    // wrong passwords so far
}

func (a *authRequest) GetID() string                         { return a.id }
func (a *authRequest) GetACR() string                        { return "" }
func (a *authRequest) GetCodeChallenge() *oidc.CodeChallenge { return a.challenge }
func (a *authRequest) GetNonce() string                      { return a.nonce }
func (a *authRequest) GetRedirectURI() string                { return a.redirectURI }
func (a *authRequest) GetResponseType() oidc.ResponseType    { return a.responseType }
func (a *authRequest) GetResponseMode() oidc.ResponseMode    { return a.responseMode }
func (a *authRequest) GetState() string                      { return a.state }
func (a *authRequest) Done() bool                            { return a.done }

// registered shows a Client to the library.
type registered struct{ Client }

func (c registered) GetID() string { return c.ID }

// RedirectURIs: a native application listens on a loopback port of its own
// choice (RFC 8252 §7.3); the library ignores the port of these two.
func (c registered) RedirectURIs() []string {
	if !c.public() {
		return c.Redirects
	}
	return []string{"http://127.0.0.1/callback", "http://localhost/callback"}
}
func (c registered) PostLogoutRedirectURIs() []string { return nil }

func (c registered) ApplicationType() op.ApplicationType {
	if c.public() {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}

func (c registered) AuthMethod() oidc.AuthMethod {
	if c.public() {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

func (c registered) ResponseTypes() []oidc.ResponseType {
	if c.logsIn() {
		return []oidc.ResponseType{oidc.ResponseTypeCode}
	}
	return nil
}

func (c registered) GrantTypes() []oidc.GrantType {
	switch {
	case c.public():
		return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
	case c.logsIn():
		return []oidc.GrantType{oidc.GrantTypeCode}
	case c.Exchange:
		return []oidc.GrantType{oidc.GrantTypeClientCredentials, oidc.GrantTypeTokenExchange}
	default:
		return []oidc.GrantType{oidc.GrantTypeClientCredentials}
	}
}

func (c registered) LoginURL(id string) string            { return loginPath + "?id=" + id }
func (c registered) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (c registered) IDTokenLifetime() time.Duration       { return time.Hour }
func (c registered) DevMode() bool                        { return false }
func (c registered) IsScopeAllowed(string) bool           { return false }
func (c registered) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c registered) ClockSkew() time.Duration             { return c.skew() }

func (c registered) RestrictAdditionalIdTokenScopes() func([]string) []string     { return asked }
func (c registered) RestrictAdditionalAccessTokenScopes() func([]string) []string { return asked }

func asked(scopes []string) []string { return scopes }
