package identity

import (
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/callgate/callgate/call"
)

// maxActors bounds a chain of actors.
const maxActors = 16

// identity reads a verified token's claims.
func (i *issuer) identity(t jwt.Token) (call.Identity, *Error) {
	claims := t.PrivateClaims()
	all := make(map[string]any, len(claims)+8)
	for k, v := range claims {
		all[k] = v
	}
	// Registered claims in the shapes that rules compare with.
	all["iss"], all["sub"], all["jti"] = t.Issuer(), t.Subject(), t.JwtID()
	all["aud"] = texts(t.Audience())
	all["exp"], all["iat"] = t.Expiration().Unix(), t.IssuedAt().Unix()

	subject, _ := at(all, i.Subject).(string)
	if subject == "" {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token has no claim %q, which names its subject", i.Subject)
	}
	id := call.Identity{Issuer: i.URL, Subject: subject, Kind: i.DefaultKind, Groups: list(at(all, i.Groups)),
		Method: "oidc", TokenID: t.JwtID(), Expires: t.Expiration(), Claims: all}
	if said := at(all, i.Kind); said != nil {
		kind, _ := said.(string)
		switch k := call.Kind(kind); k {
		case call.Human, call.CI, call.Agent, call.Workload:
			id.Kind = k
		default:
			return call.Identity{}, refuse(call.ReasonInvalidToken, "the token's claim %q is not human, ci, agent or workload", i.Kind)
		}
	}
	var bad *Error
	id.Actors, bad = actors(i.URL, all["act"])
	return id, bad
}

// actors reads the chain of RFC 8693 §4.1, the actor at work first.
func actors(issuer string, act any) ([]call.Actor, *Error) {
	var chain []call.Actor
	for act != nil {
		m, ok := act.(map[string]any)
		if !ok || len(chain) == maxActors {
			return nil, refuse(call.ReasonInvalidToken, "the token's actor chain (act) is malformed or longer than %d", maxActors)
		}
		subject, _ := m["sub"].(string)
		if subject == "" {
			return nil, refuse(call.ReasonInvalidToken, "the token's actor chain (act) has a link without sub")
		}
		from, _ := m["iss"].(string)
		if from == "" {
			from = issuer
		}
		chain = append(chain, call.Actor{Issuer: from, Subject: subject})
		act = m["act"]
	}
	return chain, nil
}

// at follows a dotted path into claims; a claim whose own name has dots, as
// namespaced ones do, is found first.
func at(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	head, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil
	}
	inner, _ := claims[head].(map[string]any)
	return at(inner, rest)
}

// list reads groups from a list or from a text with spaces or commas.
func list(v any) []string {
	switch x := v.(type) {
	case string:
		return strings.FieldsFunc(x, func(r rune) bool { return r == ' ' || r == ',' })
	case []any:
		var out []string
		for _, e := range x {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

func texts(in []string) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = s
	}
	return out
}
