package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// describe says what an access token on this request will contain, and since
// and until when it is good.
func (s *storage) describe(r op.TokenRequest) (issued, error) {
	asker, ok := r.(interface{ GetClientID() string })
	if !ok {
		return issued{}, fmt.Errorf("no tokens for %T", r)
	}
	client, ok := s.clients[asker.GetClientID()]
	if !ok {
		return issued{}, errUnknownClient
	}
	now := time.Now()
	t := issued{
		subject: r.GetSubject(), client: client.ID,
		audience: r.GetAudience(), scopes: r.GetScopes(),
		at: now.Add(-client.skew()), expires: now.Add(client.lifetime()),
	}
	x, exchange := r.(op.TokenExchangeRequest)
	if exchange {
		// A token that was exchanged never outlives what it was made of.
		subject, ok := s.active(x.GetExchangeSubjectTokenIDOrToken())
		if !ok {
			return issued{}, oidc.ErrInvalidGrant().WithDescription("subject_token ran out or was revoked")
		}
		if subject.expires.Before(t.expires) {
			t.expires = subject.expires
		}
	}
	var err error
	if exchange {
		t.claims, err = s.exchangeClaims(x)
	} else {
		t.claims, err = s.subjectClaims(r.GetSubject())
	}
	return t, err
}

// subjectClaims are what is said of somebody beside the registered claims.
func (s *storage) subjectClaims(subject string) (map[string]any, error) {
	if u, ok := s.users[subject]; ok {
		c := map[string]any{"kind": KindHuman, "groups": list(u.Groups), "email": u.Email}
		if u.Agent != "" {
			c["may_act"] = map[string]any{"sub": u.Agent}
		}
		return c, nil
	}
	if c, ok := s.clients[subject]; ok {
		return map[string]any{"kind": c.Kind, "groups": list(c.Groups), "email": c.Email}, nil
	}
	return nil, fmt.Errorf("nothing is known of subject %q", subject)
}

// exchangeClaims are those of an agent that acts for a person: the person's,
// with the agent as the actor, and whoever acted before it within (RFC 8693 §4.1).
func (s *storage) exchangeClaims(x op.TokenExchangeRequest) (map[string]any, error) {
	c, err := s.subjectClaims(x.GetSubject())
	if err != nil {
		return nil, err
	}
	act := map[string]any{"sub": x.GetExchangeActor()}
	if before, ok := x.GetExchangeSubjectTokenClaims()["act"]; ok {
		act["act"] = before
	}
	c["act"], c["kind"] = act, KindAgent
	delete(c, "may_act")
	return c, nil
}

// list makes sure that nobody's groups are an empty list, not null.
func list(groups []string) []string { return append([]string{}, groups...) }

// GetPrivateClaimsFromRequest is asked for each access token but exchanged ones.
func (s *storage) GetPrivateClaimsFromRequest(_ context.Context, r op.TokenRequest, _ []string) (map[string]any, error) {
	if d, ok := r.(describer); ok {
		d.describedOnce()
	}
	return s.subjectClaims(r.GetSubject())
}

// GetPrivateClaimsFromScopes is the older form of the same question.
func (s *storage) GetPrivateClaimsFromScopes(_ context.Context, subject, _ string, _ []string) (map[string]any, error) {
	return s.subjectClaims(subject)
}

// ValidateTokenExchangeRequest lets an agent that proves who it is, with an
// access token of its own, act for a person who named it, for a service that
// this issuer makes tokens for.
func (s *storage) ValidateTokenExchangeRequest(_ context.Context, x op.TokenExchangeRequest) error {
	// The library checks the client's secret but not that it may exchange.
	client, ok := s.clients[x.GetClientID()]
	if !ok || !client.Exchange {
		return oidc.ErrUnauthorizedClient().WithDescription("client %s may not exchange tokens", x.GetClientID())
	}
	if x.GetRequestedTokenType() == "" {
		x.SetRequestedTokenType(oidc.AccessTokenType)
	}
	if x.GetRequestedTokenType() != oidc.AccessTokenType {
		return oidc.ErrInvalidRequest().WithDescription("requested_token_type: only access tokens are given")
	}
	if x.GetExchangeSubjectTokenType() != oidc.AccessTokenType || x.GetExchangeActorTokenType() != oidc.AccessTokenType {
		return oidc.ErrInvalidRequest().WithDescription("subject_token and actor_token are both required, as access tokens")
	}
	subject, ok := s.active(x.GetExchangeSubjectTokenIDOrToken())
	if !ok || subject.subject != x.GetExchangeSubject() {
		return oidc.ErrInvalidGrant().WithDescription("subject_token is not one of this issuer's active access tokens")
	}
	actor, ok := s.active(x.GetExchangeActorTokenIDOrToken())
	if !ok || actor.subject != x.GetExchangeActor() {
		return oidc.ErrInvalidGrant().WithDescription("actor_token is not one of this issuer's active access tokens")
	}
	if x.GetExchangeActor() != client.ID {
		return oidc.ErrInvalidGrant().WithDescription("actor_token is not the client's own")
	}
	user, ok := s.users[x.GetExchangeSubject()]
	if !ok || user.Agent != client.ID {
		return oidc.ErrInvalidGrant().WithDescription("%s may not act for %s", client.ID, x.GetExchangeSubject())
	}
	if len(x.GetAudience()) == 0 {
		return oidc.ErrInvalidTarget().WithDescription("audience is required: the service that the token is for")
	}
	for _, a := range x.GetAudience() {
		if !slices.Contains(s.audience, a) {
			return oidc.ErrInvalidTarget().WithDescription("no tokens are made for this audience")
		}
	}
	if len(x.GetResourses()) > 0 {
		return oidc.ErrInvalidTarget().WithDescription("resource is not supported; name the audience")
	}
	x.SetCurrentScopes(nil)
	return nil
}

func (s *storage) CreateTokenExchangeRequest(context.Context, op.TokenExchangeRequest) error {
	return nil
}

func (s *storage) GetPrivateClaimsFromTokenExchangeRequest(_ context.Context, x op.TokenExchangeRequest) (map[string]any, error) {
	return s.exchangeClaims(x)
}

func (s *storage) SetUserinfoFromTokenExchangeRequest(context.Context, *oidc.UserInfo, op.TokenExchangeRequest) error {
	return errors.New("no ID tokens are given in an exchange")
}

// SetUserinfoFromScopes fills ID tokens.
func (s *storage) SetUserinfoFromScopes(_ context.Context, info *oidc.UserInfo, subject, _ string, scopes []string) error {
	u, ok := s.users[subject]
	if !ok {
		return fmt.Errorf("no person is called %q", subject)
	}
	info.Subject = u.Name
	if slices.Contains(scopes, oidc.ScopeProfile) {
		info.PreferredUsername = u.Name
	}
	if slices.Contains(scopes, oidc.ScopeEmail) {
		info.Email, info.EmailVerified = u.Email, true
	}
	// Applications that people log in with know them by the ID token alone.
	info.AppendClaims("kind", KindHuman)
	info.AppendClaims("groups", list(u.Groups))
	return nil
}

// SetUserinfoFromToken answers the userinfo endpoint.
func (s *storage) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, id, subject, _ string) error {
	t, ok := s.active(id)
	if !ok || t.subject != subject {
		return errors.New("the token ran out or was revoked")
	}
	return s.SetUserinfoFromScopes(ctx, info, subject, t.client, t.scopes)
}

// SetIntrospectionFromToken answers the introspection endpoint; an error makes
// it say «inactive».
func (s *storage) SetIntrospectionFromToken(ctx context.Context, r *oidc.IntrospectionResponse, id, subject, _ string) error {
	t, ok := s.active(id)
	if !ok || t.subject != subject {
		return errors.New("the token ran out or was revoked")
	}
	r.Subject, r.ClientID, r.JWTID = t.subject, t.client, id
	r.TokenType, r.Audience, r.Scope = oidc.BearerToken, t.audience, t.scopes
	r.Issuer = op.IssuerFromContext(ctx)
	r.IssuedAt, r.Expiration = oidc.FromTime(t.at), oidc.FromTime(t.expires)
	r.Claims = t.claims
	return nil
}
