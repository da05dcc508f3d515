// Package issuer is a small but real OpenID Connect provider for the demo and
// the end-to-end tests. It stands for somebody else's identity provider: it
// knows nothing of Callgate and is reached over HTTP only.
//
// It serves discovery, a JWKS, the authorization code flow with a login page
// and PKCE, refresh tokens, client credentials, token exchange with an actor
// (RFC 8693), introspection, revocation and userinfo. Everything is kept in
// memory, bounded, and lost with the process. Access tokens are RS256 JWTs.
//
// The protocol is zitadel/oidc's op package; this package is its storage, its
// login page, and [Flows], a client that gets each kind of token the way a
// person, a job or an agent would.
package issuer
