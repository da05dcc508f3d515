package control

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/xds/policyv1"
)

// Grant is a grant that somebody gave while the service ran.
type Grant struct {
	*policyv1.Grant
	Author  string // "issuer|subject"
	Reason  string
	Created time.Time
	Revoked time.Time // zero: in force, until it ends
}

// Revocation ends the validity of tokens.
type Revocation struct {
	*policyv1.Revocation
	Author  string
	Reason  string
	Created time.Time
	// Expires is when no token that it is about can be valid any more; zero:
	// it stays.
	Expires time.Time
	Lifted  time.Time // zero: in force
}

// The errors of access.
var (
	ErrUnknownGrant      = errors.New("there is no such grant in force; callgate grants list shows them")
	ErrUnknownRevocation = errors.New("there is no such revocation in force; callgate revocations list shows them")
	ErrInvalid           = errors.New("can't be done")
)

// newID makes an id that people can read to each other.
func newID(prefix string) string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// maxReason bounds a reason, in bytes.
const maxReason = 2048

// Grant gives a grant, and returns once every connected decision server has it.
// One that brings an id, which must be its alone, is given once, however often
// that is tried.
func (p *Plane) Grant(ctx context.Context, g *policyv1.Grant, author, reason string) (Grant, error) {
	ctx = begun(ctx)
	now := p.cfg.Now().UTC()
	switch {
	case len(reason) > maxReason:
		return Grant{}, fmt.Errorf("%w: the reason is longer than %d bytes", ErrInvalid, maxReason)
	case g.GetUntil() != nil && !g.GetUntil().AsTime().After(now):
		return Grant{}, fmt.Errorf("%w: the grant would have ended already, at %s", ErrInvalid, g.GetUntil().AsTime().Format(time.RFC3339))
	}
	g = proto.Clone(g).(*policyv1.Grant)
	p.access.Lock()
	defer p.access.Unlock()
	if g.GetId() == "" {
		g.Id = newID("grt_")
	} else if given, err := p.cfg.Store.grant(ctx, g.GetId()); err != nil || given.Grant != nil && !given.Revoked.IsZero() {
		return given, err
	} else if given.Grant != nil { // but maybe not told to all
		return given, p.spreadGrant(ctx, given.Grant)
	}
	if err := p.cfg.CheckGrant(g); err != nil {
		return Grant{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	out := Grant{Grant: g, Author: author, Reason: reason, Created: now}
	if err := p.cfg.Store.addGrant(ctx, out); err != nil {
		return Grant{}, err
	}
	p.note(ctx, call.ChangeEvent{What: call.ChangeGrantGiven, Version: g.GetId(), By: author, Detail: describe(g, reason)})
	return out, p.spreadGrant(ctx, g)
}

func (p *Plane) spreadGrant(ctx context.Context, g *policyv1.Grant) error {
	return p.spread(ctx, func(ctx context.Context) error {
		if p.cfg.Local != nil {
			if err := p.cfg.Local.Grants(ctx, []*policyv1.Grant{g}, nil); err != nil {
				return err
			}
		}
		return p.cfg.Servers.Grants([]*policyv1.Grant{g}, nil)
	})
}

// CheckGrant tells what is wrong with a grant that is to be given later.
func (p *Plane) CheckGrant(g *policyv1.Grant) error {
	g = proto.Clone(g).(*policyv1.Grant)
	g.Id = newID("grt_")
	if err := p.cfg.CheckGrant(g); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// describe says what a grant gives, for the audit trail.
func describe(g *policyv1.Grant, reason string) string {
	var b strings.Builder
	who := append([]string{}, g.GetIdentities()...)
	for _, group := range g.GetGroups() {
		who = append(who, "group "+group)
	}
	fmt.Fprintf(&b, "%s may call %s on %s", strings.Join(who, ", "), strings.Join(g.GetFunctions(), ", "), strings.Join(g.GetConnections(), ", "))
	if g.GetWhen() != "" {
		b.WriteString(" when " + g.GetWhen())
	}
	if g.GetUntil() != nil {
		b.WriteString(" until " + g.GetUntil().AsTime().Format(time.RFC3339))
	}
	if reason != "" {
		b.WriteString(": " + reason)
	}
	return b.String()
}

// TakeBack ends a grant before its time.
func (p *Plane) TakeBack(ctx context.Context, id, author, reason string) error {
	ctx = begun(ctx)
	p.access.Lock()
	defer p.access.Unlock()
	if err := p.cfg.Store.endGrant(ctx, id, p.cfg.Now()); err != nil {
		return err
	}
	p.note(ctx, call.ChangeEvent{What: call.ChangeGrantTaken, Version: id, By: author, Detail: reason})
	return p.dropGrants(ctx, []string{id})
}

func (p *Plane) dropGrants(ctx context.Context, ids []string) error {
	return p.spread(ctx, func(ctx context.Context) error {
		if p.cfg.Local != nil {
			if err := p.cfg.Local.Grants(ctx, nil, ids); err != nil {
				return err
			}
		}
		return p.cfg.Servers.Grants(nil, ids)
	})
}

// Revoke ends the validity of tokens, and returns once every connected decision
// server refuses them. Expires is when no such token can be valid any more.
func (p *Plane) Revoke(ctx context.Context, r *policyv1.Revocation, author, reason string, expires time.Time) (Revocation, error) {
	ctx = begun(ctx)
	now := p.cfg.Now().UTC()
	switch {
	case len(reason) > maxReason:
		return Revocation{}, fmt.Errorf("%w: the reason is longer than %d bytes", ErrInvalid, maxReason)
	case r.GetTokenId() == "" && r.GetSubject() == "" && r.GetIssuer() == "":
		return Revocation{}, fmt.Errorf("%w: a revocation of everything would lock everybody out; name a token id, a subject or an issuer", ErrInvalid)
	case r.GetTokenId() == "" && r.GetIssuedBefore() == nil:
		return Revocation{}, fmt.Errorf("%w: a revocation by subject or issuer needs a time before which tokens were issued", ErrInvalid)
	case r.GetIssuedBefore() != nil && r.GetIssuedBefore().AsTime().After(now.Add(time.Minute)):
		return Revocation{}, fmt.Errorf("%w: issued-before lies in the future, so tokens could not be renewed", ErrInvalid)
	}
	if p.cfg.CheckRevocation != nil {
		if err := p.cfg.CheckRevocation(r); err != nil {
			return Revocation{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	r = proto.Clone(r).(*policyv1.Revocation)
	r.Id = newID("rev_")
	p.access.Lock()
	defer p.access.Unlock()
	out := Revocation{Revocation: r, Author: author, Reason: reason, Created: now, Expires: expires}
	if err := p.cfg.Store.addRevocation(ctx, out); err != nil {
		return Revocation{}, err
	}
	p.note(ctx, call.ChangeEvent{What: call.ChangeTokensRevoked, Version: r.GetId(), By: author, Detail: strings.TrimSpace(told(r) + " " + reason)})
	return out, p.spread(ctx, func(ctx context.Context) error {
		if p.cfg.Local != nil {
			if err := p.cfg.Local.Revocations(ctx, []*policyv1.Revocation{r}, nil); err != nil {
				return err
			}
		}
		return p.cfg.Servers.Revocations([]*policyv1.Revocation{r}, nil)
	})
}

// told says which tokens a revocation is about.
func told(r *policyv1.Revocation) string {
	var parts []string
	for name, v := range map[string]string{"issuer": r.GetIssuer(), "subject": r.GetSubject(), "token": r.GetTokenId()} {
		if v != "" {
			parts = append(parts, name+" "+v)
		}
	}
	if r.GetIssuedBefore() != nil {
		parts = append(parts, "issued before "+r.GetIssuedBefore().AsTime().Format(time.RFC3339))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ") + ";"
}

// Lift takes a revocation back.
func (p *Plane) Lift(ctx context.Context, id, author, reason string) error {
	ctx = begun(ctx)
	p.access.Lock()
	defer p.access.Unlock()
	if err := p.cfg.Store.endRevocation(ctx, id, p.cfg.Now()); err != nil {
		return err
	}
	p.note(ctx, call.ChangeEvent{What: call.ChangeRevocationLifted, Version: id, By: author, Detail: reason})
	return p.dropRevocations(ctx, []string{id})
}

func (p *Plane) dropRevocations(ctx context.Context, ids []string) error {
	return p.spread(ctx, func(ctx context.Context) error {
		if p.cfg.Local != nil {
			if err := p.cfg.Local.Revocations(ctx, nil, ids); err != nil {
				return err
			}
		}
		return p.cfg.Servers.Revocations(nil, ids)
	})
}

// Grants lists grants; those that ended too, where all is set.
func (p *Plane) Grants(ctx context.Context, all bool) ([]Grant, error) {
	return p.cfg.Store.grants(ctx, all, p.cfg.Now())
}

// Revocations lists revocations; those that ended too, where all is set.
func (p *Plane) Revocations(ctx context.Context, all bool) ([]Revocation, error) {
	return p.cfg.Store.revocations(ctx, all, p.cfg.Now())
}
