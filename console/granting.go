package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/xds/policyv1"
)

// ErrNoGrant says that somebody may not give the grant that was to come with an
// approval.
var ErrNoGrant = errors.New("the grant can't be given")

// grantOfDecision reads the grant that a decision is to come with.
func grantOfDecision(d Decision) (approvals.Grant, error) {
	if d.Grant == "" {
		if d.Bounds != "" {
			return approvals.Grant{}, fmt.Errorf("%w: bounds are for a grant; say for how long, such as 1h", approvals.ErrInvalid)
		}
		return approvals.Grant{}, nil
	}
	period, err := config.ParsePeriod(d.Grant)
	if err != nil || period <= 0 || time.Duration(period) > config.MaxGrant {
		return approvals.Grant{}, fmt.Errorf("%w: grant must be a period up to 30d, such as 1h", approvals.ErrInvalid)
	}
	return approvals.Grant{For: time.Duration(period), Bounds: strings.TrimSpace(d.Bounds)}, nil
}

// Decide decides in who's name, and gives the grants that come with an approval
// once it is whole: a grant lets the same caller with the same agents go on
// calling the same function, within its bounds, for a while. It settles the rule
// that held the call, and no other. It returns the ids of the grants.
func (s *Server) Decide(ctx context.Context, id string, who call.Identity, a approvals.Answer) (approvals.Hold, []string, error) {
	if a.Grant.For > 0 {
		h, err := s.cfg.Approvals.Get(ctx, id)
		if err != nil {
			return approvals.Hold{}, nil, err
		}
		if a.Grant, err = s.mayGrant(&h, who, a); err != nil {
			return approvals.Hold{}, nil, err
		}
	}
	h, err := s.cfg.Approvals.Decide(ctx, id, who, a)
	if err != nil {
		return h, nil, err
	}
	grants, by := h.Grants()
	var given []string
	for i, g := range grants {
		until := time.Now().Add(g.For)
		one, err := s.give(ctx, &h, g, until, by[i])
		if err != nil {
			s.cfg.Log.ErrorContext(ctx, "a call was approved, and the grant that was to follow could not be given", "approval", h.ID, "error", err)
			return h, given, fmt.Errorf("the call is approved; the grant could not be given: %w", err)
		}
		given = append(given, one)
		if err := s.cfg.Approvals.Granted(ctx, h, by[i], one, until); err != nil {
			return h, given, err
		}
	}
	return h, given, nil
}

// MaxGrant is how long a grant may last that who gives with an approval of h; 0:
// who may give none.
func (s *Server) MaxGrant(h *approvals.Hold, who call.Identity) time.Duration {
	switch {
	case s.cfg.Control == nil || len(who.Actors) > 0:
		return 0
	case s.cfg.Controllers.Include(who):
		return config.MaxGrant
	}
	return h.Terms.Grant
}

func (s *Server) mayGrant(h *approvals.Hold, who call.Identity, a approvals.Answer) (approvals.Grant, error) {
	g := a.Grant
	g.Alone = len(who.Actors) == 0 && s.cfg.Controllers.Include(who)
	most := s.MaxGrant(h, who)
	switch {
	case !a.Approve:
		return g, fmt.Errorf("%w: a refusal can't give a grant", approvals.ErrInvalid)
	case s.cfg.Control == nil:
		return g, fmt.Errorf("%w: %w", ErrNoGrant, errNoControl)
	case most == 0:
		return g, fmt.Errorf("%w: rule %q lets approvers give none (hold.max_grant), and %w", ErrNoGrant, h.Rule, ErrNotController)
	case g.For > most:
		return g, fmt.Errorf("%w: rule %q lets approvers give one for %s at most (hold.max_grant)", ErrNoGrant, h.Rule, most)
	}
	if err := s.cfg.Control.CheckGrant(s.grantFor(h, g, time.Now().Add(g.For))); err != nil {
		return g, fmt.Errorf("%w: its bounds: %w", approvals.ErrInvalid, err)
	}
	return g, nil
}

func (s *Server) grantFor(h *approvals.Hold, g approvals.Grant, until time.Time) *policyv1.Grant {
	out := &policyv1.Grant{Identities: []string{h.Identity.Issuer + "|" + h.Identity.Subject}, Connections: []string{literal(h.Connection)}, Functions: []string{literal(h.Function)},
		When: g.Bounds, Settles: []string{h.Rule}, Until: timestamppb.New(until)}
	for _, a := range h.Identity.Actors {
		out.Actors = append(out.Actors, a.Issuer+"|"+a.Subject)
	}
	return out
}

func (s *Server) give(ctx context.Context, h *approvals.Hold, g approvals.Grant, until time.Time, by string) (string, error) {
	if s.cfg.Control == nil {
		return "", errNoControl
	}
	given, err := s.cfg.Control.Grant(ctx, s.grantFor(h, g, until), by, "approval "+h.ID)
	if _, err := behind(err); err != nil {
		return "", err
	}
	return given.GetId(), nil
}

// literal is a glob that matches exactly s.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`).Replace(s)
}
