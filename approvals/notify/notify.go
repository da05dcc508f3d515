package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// Outbox holds what is still to be told; see [approvals.Outbox].
type Outbox interface {
	Lease(ctx context.Context, target string, at, until time.Time, limit int) ([]approvals.Notice, error)
	Delivered(ctx context.Context, list ...approvals.Notice) error
	Failed(ctx context.Context, n approvals.Notice, next time.Time) error
	Undelivered(ctx context.Context, target string) (int, error)
}

// Sender tells one message. It may be called for several at once. Its error holds
// no secret.
type Sender interface {
	Send(context.Context, Message) error
}

// Target is one receiver of messages.
type Target struct {
	// Name stands in the history of a hold and in metrics.
	Name   string
	Sender Sender
	// Connections and Rules narrow what is told, by globs; none: all.
	Connections, Rules []string
	// Steps narrows it to these; none: all.
	Steps []approvals.StepName
	// Request puts what is to be decided about into the messages.
	Request bool
	// People says that people read this: they are not asked about what has
	// ended meanwhile.
	People bool
}

func (t *Target) wants(connection, rule string) bool {
	return some(t.Connections, connection) && some(t.Rules, rule)
}

// some reports whether a glob fits, or there are none.
func some(globs []string, s string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, s)
		return ok && err == nil
	})
}

// Desk is the approval service.
type Desk interface {
	// Show returns what a hold's approver is shown.
	Show(ctx context.Context, id string) (approvals.View, error)
	// Notified notes that a target was told that people are asked.
	Notified(ctx context.Context, id, target string) error
}

// Config is what a [Notifier] needs.
type Config struct {
	Targets []Target
	Outbox  Outbox
	// Link leads to a hold's page until a time; nil: messages have no links.
	Link    func(approval string, until time.Time) string
	Log     *slog.Logger
	Metrics *Metrics
	// Poll is how often the outbox is looked at. Default 1s.
	Poll time.Duration
}

// Notifier takes messages from the outbox to where they go.
type Notifier struct {
	cfg  Config
	desk Desk
	wake []chan struct{} // by target
}

var _ approvals.Notifier = (*Notifier)(nil)

const (
	defaultPoll = time.Second
	// atOnce is how many messages go to one target at a time, and batch how many
	// are leased together: few enough that all are sent, or have failed, before
	// the lease ends.
	atOnce    = 4
	batch     = 8
	leaseTime = 2 * time.Minute
	// Pauses between attempts.
	firstPause = time.Second
	maxPause   = 10 * time.Minute
	// giveUp is how old a message is told at most.
	giveUp = 3 * 24 * time.Hour
	// linkTime is how long a link leads to a call that has ended.
	linkTime = 7 * 24 * time.Hour
)

// New returns a Notifier; Run sends.
func New(cfg Config) *Notifier {
	if cfg.Poll <= 0 {
		cfg.Poll = defaultPoll
	}
	n := &Notifier{cfg: cfg}
	for range cfg.Targets {
		n.wake = append(n.wake, make(chan struct{}, 1))
	}
	return n
}

// Targets names who is told of a hold.
func (n *Notifier) Targets(h approvals.Hold) []string {
	var out []string
	for i := range n.cfg.Targets {
		if t := &n.cfg.Targets[i]; t.wants(h.Connection, h.Rule) {
			out = append(out, t.Name)
		}
	}
	return out
}

// Stepped makes Run look at once, since there may be something to tell.
func (n *Notifier) Stepped(approvals.Hold, approvals.Step) {
	for _, w := range n.wake {
		select {
		case w <- struct{}{}:
		default: // already told
		}
	}
}

// Run sends until ctx ends. What it was sending then is sent again by the next.
func (n *Notifier) Run(ctx context.Context, desk Desk) error {
	n.desk = desk
	var g errgroup.Group
	for i := range n.cfg.Targets {
		g.Go(func() error { n.serve(ctx, &n.cfg.Targets[i], n.wake[i]); return nil })
	}
	return g.Wait()
}

func (n *Notifier) serve(ctx context.Context, t *Target, wake <-chan struct{}) {
	away := false
	for ctx.Err() == nil {
		now := time.Now()
		notices, err := n.cfg.Outbox.Lease(ctx, t.Name, now, now.Add(leaseTime), batch)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !away {
			n.cfg.Log.ErrorContext(ctx, "approval store is away; notifications wait", "target", t.Name, "error", err)
		}
		away = err != nil
		if len(notices) > 0 {
			var g errgroup.Group
			g.SetLimit(atOnce)
			for _, one := range notices {
				g.Go(func() error { n.tell(ctx, t, one); return nil })
			}
			_ = g.Wait()
			continue // the next step of each may be due now
		}
		if left, err := n.cfg.Outbox.Undelivered(ctx, t.Name); err == nil {
			n.cfg.Metrics.undelivered.WithLabelValues(t.Name).Set(float64(left))
		}
		// Replicas don't look all at once.
		pause := time.NewTimer(n.cfg.Poll + rand.N(n.cfg.Poll/4+1))
		select {
		case <-ctx.Done():
		case <-pause.C:
		case <-wake:
		}
		pause.Stop()
	}
}

// tell sends one notice and notes what became of it.
func (n *Notifier) tell(ctx context.Context, t *Target, one approvals.Notice) {
	outcome, err := n.deliver(ctx, t, one)
	if ctx.Err() != nil {
		return // the lease runs out, and it is told then
	}
	log := n.cfg.Log.With("target", t.Name, "approval", one.Hold, "step", one.Step.Name, "attempt", one.Attempts)
	if err != nil && outcome == failed && time.Since(one.Step.At) > giveUp {
		outcome = dropped
	}
	switch outcome {
	case failed:
		pause := wait(one.Attempts, err)
		log.WarnContext(ctx, "a notification could not be sent; it is tried again", "error", err, "pause", pause.Round(time.Millisecond))
		err = n.cfg.Outbox.Failed(ctx, one, time.Now().Add(pause))
	case dropped:
		log.ErrorContext(ctx, "a notification is given up", "error", err)
		err = n.cfg.Outbox.Delivered(ctx, one)
	default:
		err = n.cfg.Outbox.Delivered(ctx, one)
	}
	if outcome != unwanted {
		n.cfg.Metrics.sent.WithLabelValues(t.Name, outcome).Inc()
	}
	if err != nil && ctx.Err() == nil {
		log.ErrorContext(ctx, "what became of a notification could not be kept; it is sent again", "error", err)
	}
}

// What became of a notice.
const (
	sent     = "sent"
	failed   = "failed"
	dropped  = "dropped"
	unwanted = "unwanted" // the target is not told of this
)

func (n *Notifier) deliver(ctx context.Context, t *Target, one approvals.Notice) (string, error) {
	if len(t.Steps) > 0 && !slices.Contains(t.Steps, one.Step.Name) {
		return unwanted, nil
	}
	v, err := n.desk.Show(ctx, one.Hold)
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		return dropped, err
	case err != nil:
		return failed, err
	}
	m := n.message(t, one, v)
	asks := one.Step.Name == approvals.StepAsked || one.Step.Name == approvals.StepStageDone
	if t.People && asks && !m.asks() {
		return unwanted, nil
	}
	if err := t.Sender.Send(ctx, m); err != nil {
		var r *refusal
		if errors.As(err, &r) && r.status == 410 { // it says that it will never take it
			return dropped, err
		}
		return failed, err
	}
	if asks || one.Step.Name == approvals.StepBrokeGlass {
		if err := n.desk.Notified(ctx, one.Hold, t.Name); err != nil {
			n.cfg.Log.WarnContext(ctx, "that people were told is not on record", "target", t.Name, "approval", one.Hold, "error", err)
		}
	}
	return sent, nil
}

// wait is how long to leave a target alone after so many attempts.
func wait(attempts int, err error) time.Duration {
	b := &backoff.ExponentialBackOff{InitialInterval: firstPause, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: maxPause}
	b.Reset()
	pause := b.NextBackOff()
	for range min(attempts, 20) - 1 {
		pause = b.NextBackOff()
	}
	var r *refusal
	if errors.As(err, &r) {
		pause = max(pause, r.after)
	}
	return pause
}

func (n *Notifier) message(t *Target, one approvals.Notice, v approvals.View) Message {
	m := Message{ID: fmt.Sprintf("%s_%d", one.Hold, one.Step.N), Step: one.Step.Name, At: one.Step.At, By: approvals.Visible(one.Step.By), For: approvals.Visible(one.Step.For), Comment: approvals.Visible(one.Step.Comment),
		Approval: v.ID, CallID: v.CallID, State: v.State, Connection: v.Connection, Function: v.Function, Rule: v.Rule, Text: v.Message,
		Caller: caller(v.Identity), Expires: v.Expires, reason: v.Terms.Reason}
	if one.Step.Call != (call.ID{}) {
		m.CallID = one.Step.Call.String()
	}
	if v.State == approvals.Open {
		m.Asked = asked(v.Approvers)
	}
	if n.cfg.Link != nil {
		until := v.Expires.Add(linkTime)
		m.Link = n.cfg.Link(v.ID, until)
	}
	if t.Request {
		m.Request = &Request{Method: v.Method, Path: v.Path, Arguments: v.Arguments, Body: v.Body, Form: v.BodyForm, Length: v.BodyLength, SHA256: v.BodySHA256}
		m.Request.bound()
	}
	return m
}

// asked names whom approvers of a stage are.
func asked(a call.Approvers) []string {
	var out []string
	for _, g := range a.Groups {
		out = append(out, "group "+g)
	}
	return append(out, a.People...)
}
