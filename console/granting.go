package console

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/control"
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
	if grants, _ := h.Grants(); len(grants) == 0 {
		return h, nil, nil
	}
	given, err := s.giveAll(ctx, &h)
	if err == nil {
		err = s.cfg.Outbox.Delivered(ctx, approvals.Notice{Target: approvals.GrantTarget, Hold: h.ID, Step: approvals.Step{N: h.Steps}})
	}
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "a call was approved, and the grant that comes with that can't be given now; it is tried again", "approval", h.ID, "error", err)
		return h, given, fmt.Errorf("the call is approved; the grant could not be given now, and is given as soon as it can be: %w", err)
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
		cause := strings.TrimPrefix(err.Error(), control.ErrInvalid.Error()+": ")
		if _, why, ok := strings.Cut(cause, ": when: "); ok { // of a rule that has no name yet
			cause = why
		}
		return g, fmt.Errorf("%w: its bounds: %s", approvals.ErrInvalid, cause)
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

// giveAll gives the grants that come with an approval, counted from the decision.
// It may be done again: each is given once. Those whose time is over are not.
func (s *Server) giveAll(ctx context.Context, h *approvals.Hold) (ids []string, err error) {
	grants, by := h.Grants()
	for i, g := range grants {
		until := h.EndedAt.Add(g.For)
		if !until.After(time.Now()) {
			s.cfg.Log.WarnContext(ctx, "a grant that came with an approval was over before it could be given", "approval", h.ID, "until", until)
			continue
		}
		id, err := s.give(ctx, h, i, g, until, by[i])
		if err == nil {
			err = s.cfg.Approvals.Granted(ctx, h.ID, by[i], id, until)
		}
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// give gives the n-th grant of an approval. Its id tells that: whoever gives it
// again finds it given.
func (s *Server) give(ctx context.Context, h *approvals.Hold, n int, g approvals.Grant, until time.Time, by string) (string, error) {
	if s.cfg.Control == nil {
		return "", errNoControl
	}
	grant := s.grantFor(h, g, until)
	sum := sha256.Sum256(fmt.Appendf(nil, "callgate/grant/v1\x00%s\x00%d", h.ID, n))
	grant.Id = "grt_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]))
	given, err := s.cfg.Control.Grant(ctx, grant, by, "approval "+h.ID)
	if _, err := behind(err); err != nil {
		return "", err
	}
	return given.GetId(), nil
}

const (
	givePoll  = time.Second
	giveLease = time.Minute
	giveBatch = 8
	// Pauses after a grant could not be given.
	givePause, giveMaxPause = time.Second, time.Minute
)

// GiveGrants gives what came with approvals and was not given by who took the
// decision, since it died or could not, until ctx ends.
func (s *Server) GiveGrants(ctx context.Context) {
	if s.cfg.Control == nil {
		return
	}
	t := time.NewTicker(givePoll)
	defer t.Stop()
	for away := false; ; {
		err := s.giveDue(ctx)
		if err != nil && !away && ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "approval store is away; grants that come with approvals wait", "error", err)
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Server) giveDue(ctx context.Context) error {
	now := time.Now()
	list, err := s.cfg.Outbox.Lease(ctx, approvals.GrantTarget, now.Add(-givePoll), now.Add(giveLease), giveBatch)
	if err != nil {
		return err
	}
	for _, n := range list {
		h, err := s.cfg.Approvals.Get(ctx, n.Hold)
		if err == nil {
			_, err = s.giveAll(ctx, &h)
		}
		switch {
		case err == nil, errors.Is(err, approvals.ErrNotFound):
			err = s.cfg.Outbox.Delivered(ctx, n)
		case ctx.Err() == nil:
			pause := min(givePause<<min(n.Attempts, 10), giveMaxPause)
			s.cfg.Log.WarnContext(ctx, "a grant that came with an approval can't be given; it is tried again", "approval", n.Hold, "attempt", n.Attempts, "pause", pause, "error", err)
			err = s.cfg.Outbox.Failed(ctx, n, now.Add(pause))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// literal is a glob that matches exactly s.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`).Replace(s)
}
