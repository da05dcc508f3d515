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
	ClaimOrigin  = "callgate_origin" // the tokens and assertions that it was given for: iss, sub, jti and iat of each
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
	if _, ok := readOrigins(private[ClaimOrigin]); !ok {
		return call.Identity{}, broken
	}
	id := call.Identity{Issuer: from, Subject: subject, Method: "exchange", TokenID: t.JwtID(), Expires: t.Expiration(), Groups: list(private["groups"], "")}
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
		id.Email = email(own)
	}
	id.Claims["iss"], id.Claims["sub"], id.Claims["jti"] = from, subject, t.JwtID()
	id.Claims["aud"] = texts(t.Audience())
	id.Claims["exp"], id.Claims["iat"] = t.Expiration().Unix(), t.IssuedAt().Unix()
	for _, name := range []string{"act", "may_act", "cnf"} {
		delete(id.Claims, name)
		if v, ok := private[name]; ok {
			id.Claims[name] = v
		}
	}
	// This token is its own issuer's too, which is ours: as that it can be revoked.
	earlier, _ := private[ClaimOrigin].([]any)
	own := Origin{Issuer: i.URL, TokenID: t.JwtID(), Issued: t.IssuedAt().Unix(), Dated: true}
	id.Claims[ClaimOrigin] = append([]any{own.Claim()}, earlier...)
	return id, nil
}

// Origin is one token or assertion that an identity goes back to: to revoke it is
// to revoke what it was exchanged for.
type Origin struct {
	Issuer, Subject, TokenID string
	// Issued is when it was issued, in seconds since 1970. One that is not
	// Dated did not say, and is taken to be old.
	Issued int64
	Dated  bool
}

// Origins lists what an identity goes back to, beginning with its own token.
func Origins(id call.Identity) []Origin {
	own := Origin{Issuer: id.Issuer, Subject: id.Subject, TokenID: id.TokenID}
	own.Issued, own.Dated = id.Claims["iat"].(int64)
	if id.Method != "exchange" {
		return []Origin{own}
	}
	earlier, _ := readOrigins(id.Claims[ClaimOrigin]) // read before, when the token was verified
	return append([]Origin{own}, earlier...)
}

// Claim is how a token writes it.
func (o Origin) Claim() map[string]any {
	out := map[string]any{"iss": o.Issuer}
	for name, v := range map[string]string{"sub": o.Subject, "jti": o.TokenID} {
		if v != "" {
			out[name] = v
		}
	}
	if o.Dated {
		out["iat"] = o.Issued
	}
	return out
}

// readOrigins reads ClaimOrigin.
func readOrigins(claim any) ([]Origin, bool) {
	list, ok := claim.([]any)
	out := make([]Origin, len(list))
	for n, one := range list {
		m, _ := one.(map[string]any)
		o := &out[n]
		o.Issuer, _ = m["iss"].(string)
		o.Subject, _ = m["sub"].(string)
		o.TokenID, _ = m["jti"].(string)
		var at time.Time
		if at, o.Dated = seconds(m["iat"]); o.Dated {
			o.Issued = at.Unix()
		}
		ok = ok && o.Issuer != ""
	}
	return out, ok && len(list) > 0
}
