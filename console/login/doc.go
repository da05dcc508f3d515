// Package login logs people in with their own OpenID Connect issuer and keeps
// them logged in while they look at pages.
//
// The authorization code flow runs with PKCE, state and nonce. Who somebody is
// comes from the ID token, read by the same settings as access tokens are. What
// the server remembers lies in encrypted cookies that no script can read, so any
// replica with the same key can go on. Where a login leads to is in such a cookie
// too, never in a URL.
package login
