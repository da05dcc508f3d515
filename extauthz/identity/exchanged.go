package identity

import (
	"maps"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/callgate/callgate/call"
)

// The claims of a token that Callgate gave for another (RFC 8693), beside those
// that every access token has. The subject is named by sub_id (RFC 9493), with
// the issuer that knows it.
const (
	ClaimSubject = "sub_id"
	ClaimScope   = "scope"
	ClaimOrigin  = "callgate_origin" // ids of the tokens and assertions that it was given for
	ClaimClaims  = "callgate_claims" // what the subject's own token said, as rules see it
)

// FormatIssuerSubject is the format of sub_id (RFC 9493 §3.2.3).
const FormatIssuerSubject = "iss_sub"

// exchanged reads a token of Callgate's own: whom it speaks for is known to the
// issuer that sub_id names, and rules see what that one said.
func (i *issuer) exchanged(t jwt.Token) (call.Identity, *Error) {
	private := t.PrivateClaims()
	broken := refuse(call.ReasonInvalidToken, "the token can't be read as one that was exchanged here; exchange anew")
	named, _ := private[ClaimSubject].(map[string]any)
	format, _ := named["format"].(string)
	from, _ := named["iss"].(string)
	subject, _ := named["sub"].(string)
	if format != FormatIssuerSubject || from == "" || subject == "" || subject != t.Subject() || t.JwtID() == "" || t.IssuedAt().IsZero() {
		return call.Identity{}, broken
	}
	id := call.Identity{Issuer: from, Subject: subject, Method: "exchange", TokenID: t.JwtID(), Expires: t.Expiration(), Groups: list(private["groups"])}
	kind, _ := private["kind"].(string)
	switch id.Kind = call.Kind(kind); id.Kind {
	case call.Human, call.CI, call.Agent, call.Workload:
	default:
		return call.Identity{}, broken
	}
	if said, narrowed := private[ClaimScope]; narrowed {
		text, _ := said.(string)
		scope, err := call.ParseScope(text)
		if err != nil {
			return call.Identity{}, broken
		}
		id.Scope = scope
	}
	var bad *Error
	if id.Actors, bad = actors(from, private["act"]); bad != nil {
		return call.Identity{}, bad
	}
	id.Claims = map[string]any{}
	if own, ok := private[ClaimClaims].(map[string]any); ok {
		maps.Copy(id.Claims, own)
	}
	id.Claims["iss"], id.Claims["sub"], id.Claims["jti"] = from, subject, t.JwtID()
	id.Claims["aud"] = texts(t.Audience())
	id.Claims["exp"], id.Claims["iat"] = t.Expiration().Unix(), t.IssuedAt().Unix()
	for _, name := range []string{"act", "may_act", "cnf", ClaimOrigin} {
		delete(id.Claims, name)
		if v, ok := private[name]; ok {
			id.Claims[name] = v
		}
	}
	return id, nil
}

// origins are the ids of what a token was given for: to revoke one of these is to
// revoke the token.
func origins(id call.Identity) []string {
	if id.Method != "exchange" {
		return nil
	}
	return list(id.Claims[ClaimOrigin])
}

// issued is when a token was issued; false where it does not say.
func issued(id call.Identity) (time.Time, bool) {
	at, ok := id.Claims["iat"].(int64)
	return time.Unix(at, 0), ok
}
