package identity

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/callgate/callgate/call"
)

// maxActors bounds a chain of actors.
const maxActors = 16

// identity reads a verified token's claims.
func (i *issuer) identity(t jwt.Token) (call.Identity, *Error) {
	if i.Exchanged {
		return i.exchanged(t)
	}
	claims := t.PrivateClaims()
	all := make(map[string]any, len(claims)+8)
	for k, v := range claims {
		all[k] = v
	}
	// Registered claims in the shapes that rules compare with.
	all["iss"], all["sub"], all["jti"] = t.Issuer(), t.Subject(), t.JwtID()
	all["aud"] = texts(t.Audience())
	all["exp"], all["iat"] = t.Expiration().Unix(), t.IssuedAt().Unix()

	id, bad := i.read(all)
	if bad != nil {
		return call.Identity{}, bad
	}
	id.Method, id.TokenID, id.Expires = "oidc", t.JwtID(), t.Expiration()
	return id, nil
}

// read makes an identity of claims that are believed.
func (i *issuer) read(all map[string]any) (call.Identity, *Error) {
	for path, want := range i.Require {
		if !has(at(all, path), want) {
			return call.Identity{}, refuse(call.ReasonInvalidToken, "the token's claim %q is not what this gateway wants of this issuer (claims.require)", path)
		}
	}
	if names, _ := all["_claim_names"].(map[string]any); names["groups"] != nil && i.Groups == "groups" {
		// Entra ID leaves the groups out of a token that has too many, and a
		// rule that denies a group must not pass for want of them.
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token leaves out its groups because there are too many (group overage); have the issuer send only the groups of this application, or map roles")
	}
	subject, _ := at(all, i.Subject).(string)
	if subject == "" {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token has no claim %q, which names its subject", i.Subject)
	}
	id := call.Identity{Issuer: i.URL, Subject: subject, Kind: i.DefaultKind, Groups: list(at(all, i.Groups), i.Separators),
		Claims: all}
	if said := at(all, i.Kind); said != nil {
		kind, _ := said.(string)
		switch k := call.Kind(kind); k {
		case call.Human, call.CI, call.Agent, call.Workload:
			id.Kind = k
		default:
			return call.Identity{}, refuse(call.ReasonInvalidToken, "the token's claim %q is not human, ci, agent or workload", i.Kind)
		}
	}
	id.Email = email(all)
	var bad *Error
	id.Actors, bad = actors(i.URL, all["act"])
	return id, bad
}

// email is the address that an issuer says it has verified.
func email(claims map[string]any) string {
	if !has(claims["email_verified"], []string{"true"}) {
		return ""
	}
	address, _ := claims["email"].(string)
	return address
}

// has reports whether a claim is one of the values, or a list that holds one.
func has(claim any, want []string) bool {
	switch x := claim.(type) {
	case string:
		return slices.ContainsFunc(want, func(w string) bool { ok, err := path.Match(w, x); return err == nil && ok })
	case bool:
		return slices.Contains(want, strconv.FormatBool(x))
	case float64:
		return slices.Contains(want, strconv.FormatFloat(x, 'f', -1, 64))
	case []any:
		return slices.ContainsFunc(x, func(v any) bool { return has(v, want) })
	}
	return false
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
	for i := strings.LastIndexByte(path, '.'); i >= 0; i = strings.LastIndexByte(path[:i], '.') {
		if inner, ok := claims[path[:i]].(map[string]any); ok {
			return at(inner, path[i+1:])
		}
	}
	return nil
}

// list reads groups from a list, or from a text with separators between them.
// Without any, the text is one group: in a part of it somebody else might be.
func list(v any, separators string) []string {
	switch x := v.(type) {
	case string:
		return strings.FieldsFunc(x, func(r rune) bool { return strings.ContainsRune(separators, r) })
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
