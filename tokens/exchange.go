package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// given is a successful answer (RFC 8693 §2.2.1).
type given struct {
	Token   string `json:"access_token"`
	Issued  string `json:"issued_token_type"`
	Type    string `json:"token_type"`
	Expires int64  `json:"expires_in"` // seconds
	Scope   string `json:"scope,omitempty"`
}

const (
	// maxToken bounds a token, in bytes: callers send it with each call, beside
	// other headers.
	maxToken = 12 << 10
	// maxActors bounds a chain of actors, as those who verify it do.
	maxActors = 16
)

// party is whom a token or assertion speaks for.
type party struct {
	call.Identity
	once []Used // assertions that are used by it
}

// exchange gives a token.
func (i *Issuer) exchange(ctx context.Context, r *request) (*given, *fault) {
	now := i.cfg.Now()
	subject, bad := i.party(ctx, "subject_token", r.subject, r.subjectType)
	if bad != nil {
		return nil, bad
	}
	var actor *party
	if r.actor != "" {
		a, bad := i.party(ctx, "actor_token", r.actor, r.actorType)
		if bad != nil {
			return nil, bad
		}
		if bad := i.mayAct(a.Identity, subject.Identity); bad != nil {
			return nil, bad
		}
		actor = &a
	}
	audiences, bad := i.audiences(r.audiences, subject.Identity)
	if bad != nil {
		return nil, bad
	}
	scope, bad := narrowed(r, subject.Scope)
	if bad != nil {
		return nil, bad
	}
	expires := now.Add(i.cfg.Lifetime)
	list := subject.once
	for _, p := range []*party{&subject, actor} {
		if p != nil && !p.Expires.IsZero() && p.Expires.Before(expires) {
			expires = p.Expires
		}
	}
	if expires = expires.Truncate(time.Second); !expires.After(now) {
		return nil, no(invalidRequest, "the subject_token or the actor_token has expired; get a new one")
	}
	claims, bad := i.claims(subject, actor, scope)
	if bad != nil {
		return nil, bad
	}
	id := uuid.NewString()
	claims["iss"], claims["aud"], claims["jti"] = i.cfg.Issuer, audiences, id
	claims["iat"], claims["exp"] = now.Unix(), expires.Unix()
	token, err := i.sign(claims)
	if err != nil {
		i.cfg.Log.ErrorContext(ctx, "a token could not be signed", "error", err)
		return nil, no(unavailable, "no token can be given now; try again later")
	}
	if len(token) > maxToken {
		return nil, no(invalidRequest, "the subject_token says so much that its exchange would be longer than %d bytes; have its issuer send fewer groups or claims", maxToken)
	}
	if actor != nil {
		list = append(slices.Clone(list), actor.once...)
	}
	// From here on an assertion is used up, so all else has been looked at.
	switch err := i.once(ctx, list); {
	case errors.Is(err, ErrUsed):
		return nil, no(invalidRequest, "the assertion was exchanged before, and is for one use; get a new one")
	case err != nil:
		i.cfg.Log.ErrorContext(ctx, "whether an assertion was used before can't be told; no token is given", "error", err)
		return nil, no(unavailable, "no assertion can be exchanged now; try again later")
	}
	if err := i.cfg.Record(ctx, record(subject, actor, id, audiences, scope, expires)); err != nil {
		i.cfg.Log.ErrorContext(ctx, "an exchange can't be recorded; no token is given", "error", err)
		return nil, no(unavailable, "the exchange can't be recorded now; try again later")
	}
	out := &given{Token: token, Issued: typeAccess, Type: "Bearer", Expires: int64(expires.Sub(now) / time.Second), Scope: scope.String()}
	if bound, _ := claims["cnf"].(map[string]any); bound["jkt"] != nil {
		out.Type = "DPoP"
	}
	return out, nil
}

// party verifies a token or an assertion.
func (i *Issuer) party(ctx context.Context, which, text, kind string) (party, *fault) {
	if kind != typeSAML2 {
		id, err := i.cfg.Verifier.Token(ctx, text)
		if err != nil {
			return party{}, refused(which, err)
		}
		return party{Identity: id}, nil
	}
	if i.cfg.Assertions == nil {
		return party{}, no(invalidRequest, "SAML assertions are not taken here; see identity.saml")
	}
	a, err := i.cfg.Assertions.Assertion(text)
	if err != nil {
		return party{}, refused(which, err)
	}
	if a.Final {
		return party{}, no(invalidRequest, "%s: its provider wants nothing issued on its strength (ProxyRestriction)", which)
	}
	id := a.Identity
	if err := i.cfg.Verifier.Admit(id); err != nil {
		return party{}, refused(which, err)
	}
	// It is remembered for as long as it could be shown again.
	return party{Identity: id, once: []Used{{sha256.Sum256([]byte(id.Issuer + "\x00" + id.TokenID)), id.Expires.Add(2 * i.cfg.ClockSkew)}}}, nil
}

// mayAct makes sure that the subject's token names the actor (RFC 8693 §4.4), or
// that the configuration lets it act.
func (i *Issuer) mayAct(actor, subject call.Identity) *fault {
	switch {
	case len(actor.Actors) > 0:
		return no(invalidRequest, "actor_token: somebody acts for its subject already; send the token of the one who acts")
	case actor.Scope.Narrowed():
		return no(invalidRequest, "actor_token: it is narrowed to some functions, and does not speak for its subject as a whole")
	case len(subject.Actors) >= maxActors:
		return no(invalidRequest, "more than %d would act one for another", maxActors)
	}
	said, has := subject.Claims["may_act"]
	if has && named(said, actor, subject.Issuer) {
		return nil
	}
	for _, d := range i.cfg.Delegation {
		if d.Actors.Include(actor) && d.Subjects.Include(subject) {
			return nil
		}
	}
	if has {
		return no(invalidRequest, "the subject_token names somebody else as the one who may act (may_act)")
	}
	return no(invalidRequest, "the subject_token does not say that the actor may act (may_act), and nor does identity.exchange.delegation")
}

// named reports whether may_act is the actor: each of its claims must be.
func named(said any, actor call.Identity, issuer string) bool {
	m, ok := said.(map[string]any)
	if !ok {
		return false
	}
	if sub, _ := m["sub"].(string); sub == "" {
		return false
	}
	for name, want := range m {
		if name == "iss" {
			continue
		}
		if have, ok := actor.Claims[name]; !ok || !reflect.DeepEqual(have, want) {
			return false
		}
	}
	from, has := m["iss"]
	if !has {
		return actor.Issuer == issuer
	}
	return from == actor.Issuer
}

// audiences are those that the token will be for.
func (i *Issuer) audiences(wanted []string, subject call.Identity) ([]string, *fault) {
	allowed := i.cfg.Audiences
	if subject.Method == "exchange" {
		// A token of ours becomes none for a place that it was not for.
		own, _ := subject.Claims["aud"].([]any)
		allowed = slices.DeleteFunc(slices.Clone(allowed), func(a string) bool { return !slices.Contains(own, any(a)) })
		if len(wanted) == 0 && len(allowed) > 0 {
			return allowed, nil
		}
	}
	if len(allowed) == 0 {
		return nil, no(invalidTarget, "the subject_token is for no audience of this issuer")
	}
	if len(wanted) == 0 {
		return allowed[:1], nil
	}
	for _, a := range wanted {
		if !slices.Contains(allowed, a) {
			return nil, no(invalidTarget, "an audience is not one that tokens can be had for here; there are %s", printable(errors.New(strings.Join(allowed, ", "))))
		}
	}
	return wanted, nil
}

// narrowed is the scope of the new token: what was asked for, within what the
// subject's own is narrowed to.
func narrowed(r *request, own call.Scope) (call.Scope, *fault) {
	wanted, bad := r.wanted()
	switch {
	case bad != nil:
		return nil, bad
	case !wanted.Narrowed():
		return own, nil
	case !own.Includes(wanted):
		return nil, no(invalidScope, "the scope is wider than that of the subject_token, which is %s", own)
	}
	return wanted, nil
}

// protocolClaims are those that a token of ours says itself.
var protocolClaims = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "act", "may_act", "cnf", "active", "token_type", identity.ClaimOrigin}

// claims are what the token says of its subject.
func (i *Issuer) claims(subject party, actor *party, scope call.Scope) (map[string]any, *fault) {
	// Rules see what the subject's own token says: an exchange hides nothing
	// from a rule that denies.
	own := maps.Clone(subject.Claims)
	for _, name := range protocolClaims {
		delete(own, name)
	}
	c := map[string]any{"sub": subject.Subject, "kind": subject.Kind, identity.ClaimClaims: own,
		identity.ClaimSubject: map[string]any{"format": identity.FormatIssuerSubject, "iss": subject.Issuer, "sub": subject.Subject}}
	if len(subject.Groups) > 0 {
		c["groups"] = subject.Groups
	}
	if scope.Narrowed() {
		c["scope"] = scope.String()
	}
	chain := subject.Actors
	bound, isBound := subject.Claims["cnf"]
	if actor != nil {
		chain = append([]call.Actor{{Issuer: actor.Issuer, Subject: actor.Subject}}, chain...)
		theirs, has := actor.Claims["cnf"]
		if isBound && !has {
			return nil, no(invalidRequest, "the subject_token is bound to a key (cnf), and the actor_token is not; bind the actor's too")
		}
		// The actor is the one who will show the token.
		bound, isBound = theirs, has
	} else if may, has := subject.Claims["may_act"]; has {
		c["may_act"] = may
	}
	if isBound {
		// A stolen token that is bound is exchanged for one that is bound, of
		// which the thief has no more.
		c["cnf"] = bound
	}
	if act := nest(chain); act != nil {
		c["act"] = act
	}
	c[identity.ClaimOrigin] = origin(subject, actor)
	return c, nil
}

// nest writes a chain as RFC 8693 §4.1 has it.
func nest(chain []call.Actor) map[string]any {
	var act map[string]any
	for _, a := range slices.Backward(chain) {
		next := map[string]any{"sub": a.Subject, "iss": a.Issuer}
		if act != nil {
			next["act"] = act
		}
		act = next
	}
	return act
}

// origin lists all that a token goes back to.
func origin(subject party, actor *party) []any {
	var out []any
	for _, p := range []*party{&subject, actor} {
		if p == nil {
			continue
		}
		for _, o := range identity.Origins(p.Identity) {
			out = append(out, o.Claim())
		}
	}
	return out
}

// sign makes a JWT access token (RFC 9068).
func (i *Issuer) sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode the claims: %w", err)
	}
	known := i.keys.Load()
	if known == nil {
		return "", errors.New("there is no key yet: the store of tokens is away")
	}
	key := known.signing
	h := jws.NewHeaders()
	for name, v := range map[string]any{jws.TypeKey: "at+jwt", jws.KeyIDKey: key.KeyID()} {
		if err := h.Set(name, v); err != nil {
			return "", fmt.Errorf("set a header: %w", err)
		}
	}
	out, err := jws.Sign(payload, jws.WithKey(jwa.ES256, key, jws.WithProtectedHeaders(h)))
	return string(out), err
}

// record tells of an exchange.
func record(subject party, actor *party, id string, audiences []string, scope call.Scope, expires time.Time) call.ChangeEvent {
	by := subject.Issuer + "|" + subject.Subject
	detail := "for " + by + ", audience " + strings.Join(audiences, " ") + ", until " + expires.UTC().Format(time.RFC3339) + ", by " + subject.Method
	if subject.TokenID != "" {
		detail += " " + subject.TokenID
	}
	if scope.Narrowed() {
		detail += ", scope " + scope.String()
	}
	if actor != nil {
		by = actor.Issuer + "|" + actor.Subject
		detail += ", acting: " + by
	}
	return call.ChangeEvent{What: call.ChangeTokenExchanged, Version: id, By: by, Detail: detail}
}
