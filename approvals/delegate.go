package approvals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
)

// LongestDelegation bounds a delegation: the approver's groups are those that it
// had when it delegated.
const LongestDelegation = 90 * 24 * time.Hour

// Steps of delegations, beside those of holds.
const (
	StepDelegated   StepName = "delegated"
	StepUndelegated StepName = "undelegated"
)

// Delegate lets another person decide in by's place until a time. It gives what
// by may decide itself, and not what others have delegated to by. The error is
// ErrNotApprover or ErrInvalid, or tells that the store or the record is away.
func (s *Service) Delegate(ctx context.Context, by call.Identity, to string, until time.Time, reason string) (Delegation, error) {
	now := time.Now()
	to = strings.TrimSpace(to)
	invalid := func(format string, args ...any) (Delegation, error) {
		return Delegation{}, fmt.Errorf("delegate: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case by.Anonymous(), len(by.Actors) > 0, by.Kind != "" && by.Kind != call.Human:
		return Delegation{}, fmt.Errorf("delegate: %w: only people delegate, and in person", ErrNotApprover)
	case to == "":
		return invalid("name the person, as its token's subject or as \"issuer|subject\"")
	case checkComment(to) != nil || len(to) > 512 || strings.ContainsAny(to, "\n\t"):
		return invalid("%q is no name of a person", visible(to))
	case samePerson(to, by):
		return invalid("nobody delegates to themselves")
	case !until.After(now):
		return invalid("its end, %s, is past", until.UTC().Format(time.RFC3339))
	case until.After(now.Add(LongestDelegation)):
		return invalid("its end, %s, is more than %d days away; delegate again then", until.UTC().Format(time.RFC3339), int(LongestDelegation.Hours()/24))
	}
	if err := checkComment(reason); err != nil {
		return Delegation{}, fmt.Errorf("delegate: %w", err)
	}
	by.Claims = nil
	d := Delegation{ID: newID(delegationPrefix), From: by, To: delegateOf(by, to), Reason: reason, Created: now, Until: until}
	if err := s.cfg.Store.Delegate(ctx, d); err != nil {
		s.cfg.Metrics.storeErr.Inc()
		return Delegation{}, fmt.Errorf("delegate: the approval store is away, look whether it was taken: %w", err)
	}
	return d, s.delegated(ctx, StepDelegated, d, PersonOf(by).String(), now)
}

// samePerson reports whether a name, with or without issuer, could be somebody's.
func samePerson(name string, who call.Identity) bool {
	_, subject, _ := strings.Cut(name, "|")
	return same([]string{name, subject}, []string{who.Subject, who.Email})
}

// delegateOf is a delegate's name with the issuer: the approver's own, where it is
// written without one.
func delegateOf(from call.Identity, to string) string {
	if from.Issuer == "" || call.OfIssuer(to) || strings.HasPrefix(to, from.Issuer+"|") {
		return to
	}
	return from.Issuer + "|" + to
}

// inForce are the delegations that count at a time: those of approvers whose
// tokens of when they delegated have not been revoked.
func (s *Service) inForce(ctx context.Context, at time.Time) ([]Delegation, error) {
	list, err := s.cfg.Store.Delegations(ctx, at)
	return slices.DeleteFunc(list, func(d Delegation) bool {
		from := d.From
		from.Claims = map[string]any{"iat": d.Created.Unix()}
		return s.cfg.Admit(from) != nil
	}), err
}

// Undelegate takes a delegation back. Who gave it and who has it may.
func (s *Service) Undelegate(ctx context.Context, id string, by call.Identity) (Delegation, error) {
	id = strings.ToLower(strings.TrimSpace(id))
	now := time.Now()
	list, err := s.Delegations(ctx, by, false)
	if err != nil {
		return Delegation{}, err
	}
	if len(by.Actors) > 0 || !slices.ContainsFunc(list, func(d Delegation) bool { return d.ID == id }) {
		return Delegation{}, fmt.Errorf("delegation %q: %w of yours; 'callgate approvals delegate --list' shows them", id, ErrNotFound)
	}
	return s.endDelegation(ctx, id, by, now)
}

// EndDelegation ends a delegation whosever it is; who may is the caller's to say.
func (s *Service) EndDelegation(ctx context.Context, id string, by call.Identity) (Delegation, error) {
	return s.endDelegation(ctx, strings.ToLower(strings.TrimSpace(id)), by, time.Now())
}

func (s *Service) endDelegation(ctx context.Context, id string, by call.Identity, now time.Time) (Delegation, error) {
	d, err := s.cfg.Store.Undelegate(ctx, id, PersonOf(by).String(), now)
	switch {
	case errors.Is(err, ErrNotFound):
		return Delegation{}, fmt.Errorf("delegation %q: %w: it is over", id, ErrNotFound)
	case err != nil:
		s.cfg.Metrics.storeErr.Inc()
		return Delegation{}, fmt.Errorf("delegation %q: the approval store is away, look whether it was taken back: %w", id, err)
	}
	return d, s.delegated(ctx, StepUndelegated, d, d.EndedBy, now)
}

// Delegations returns those that who gave or has, the newest first: those that
// are in force, or with all those that are over, too.
func (s *Service) Delegations(ctx context.Context, who call.Identity, all bool) ([]Delegation, error) {
	list, err := s.EveryDelegation(ctx, all)
	return slices.DeleteFunc(list, func(d Delegation) bool { return PersonOf(d.From) != PersonOf(who) && !d.to(who) }), err
}

// EveryDelegation is Delegations whosever they are; who may see that is the
// caller's to say.
func (s *Service) EveryDelegation(ctx context.Context, all bool) ([]Delegation, error) {
	at := time.Now()
	if all {
		at = time.Time{}
	}
	list, err := s.cfg.Store.Delegations(ctx, at)
	if err != nil {
		s.cfg.Metrics.storeErr.Inc()
		return nil, fmt.Errorf("list delegations: the approval store is away, try again: %w", err)
	}
	return list, nil
}

// delegated puts a delegation on record.
func (s *Service) delegated(ctx context.Context, name StepName, d Delegation, by string, at time.Time) error {
	number := 1
	if name == StepUndelegated {
		number = 2
	}
	s.cfg.Log.InfoContext(ctx, "approvals "+string(name), "delegation", d.ID, "from", PersonOf(d.From).String(), "to", d.To, "until", d.Until, "by", by)
	err := step(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return s.cfg.Recorder.Record(ctx, call.Event{Kind: call.Approved, Time: at, Approval: &call.ApprovalEvent{
			ID: d.ID, Step: string(name), By: by, InPlaceOf: PersonOf(d.From).String(), Comment: strings.TrimSpace("to " + d.To + ": " + d.Reason), Expires: d.Until, Number: number}})
	})
	if err != nil {
		return fmt.Errorf("delegation %s stands, but its audit event could not be written: %w", d.ID, err)
	}
	return nil
}
