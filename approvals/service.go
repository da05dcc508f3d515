package approvals

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// Recorder makes an event durable. It returns when the event is on disk.
type Recorder interface {
	Record(context.Context, call.Event) error
}

// Notifier tells people that they are asked. It must return at once and
// deliver in the background; the hold goes on whatever becomes of it.
type Notifier interface {
	Asked(Hold)
}

// Config is what a [Service] needs.
type Config struct {
	Store    Store
	Recorder Recorder
	Log      *slog.Logger
	Metrics  *Metrics
	// Notifier may be nil.
	Notifier Notifier
	// Redact hides credential-like values in a text that is shown to an
	// approver, beyond those that are known by their name. It may be nil.
	Redact func(string) string
	// Key keys the hash by which events name what an approval is bound to: who
	// reads them can't tell a request by guessing. Nil leaves it unkeyed.
	Key []byte
	// Poll is how often the store is asked for decisions made by other
	// processes. Default 250ms.
	Poll time.Duration
	// Keep is how long ended holds stay in the store. Default 30 days; the
	// audit trail keeps its own record.
	Keep time.Duration
}

// Service holds calls and takes people's decisions.
type Service struct {
	cfg Config

	mu      sync.Mutex
	waiting map[string]chan struct{} // by hold; a send wakes its caller
}

const (
	defaultPoll = 250 * time.Millisecond
	defaultKeep = 30 * 24 * time.Hour
	// stepTimeout bounds one step of the store or the recorder, so that a
	// call isn't kept by one that hangs.
	stepTimeout = 5 * time.Second
	// maxComment bounds what an approver can write, in bytes.
	maxComment = 4096
)

// New returns a Service. [Service.Run] must run for decisions of other
// processes to be seen and for abandoned holds to expire.
func New(cfg Config) *Service {
	if cfg.Poll <= 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.Keep <= 0 {
		cfg.Keep = defaultKeep
	}
	return &Service{cfg: cfg, waiting: map[string]chan struct{}{}}
}

// Decide approves or refuses a hold in by's name. The error is ErrNotFound,
// ErrNotApprover, ErrSelfApproval, ErrDecided, ErrExpired, ErrCanceled or
// ErrInvalid, with its cause, or tells that the store or the record is away.
func (s *Service) Decide(ctx context.Context, id string, by call.Identity, approve bool, comment string) error {
	if err := checkComment(comment); err != nil {
		return fmt.Errorf("decide about %s: %w", id, err)
	}
	h, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := mayDecide(&h, by); err != nil {
		return fmt.Errorf("decide about %s: %w", h.ID, err)
	}
	v := Verdict{Approve: approve, By: principal(by), Comment: comment, At: time.Now()}
	if err := s.cfg.Store.Decide(ctx, h.ID, v); err != nil {
		return s.undecidable(ctx, h, err)
	}
	s.cfg.Metrics.decision.Observe(v.At.Sub(h.AskedAt).Seconds())
	verdict := string(Refused)
	if approve {
		verdict = string(Approved)
	}
	s.cfg.Log.InfoContext(ctx, "approval decided", "approval", h.ID, "call_id", h.CallID, "decision", verdict, "by", v.By)
	// The decision stands now; who made it must be known even if the
	// decider's connection breaks.
	err = step(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return s.record(ctx, &h, call.Approved, verdict, v.By, comment)
	})
	s.wake(h.ID)
	if err != nil {
		return fmt.Errorf("decide about %s: the decision stands, but its audit event could not be written: %w", h.ID, err)
	}
	return nil
}

// undecidable puts the store's refusal into words.
func (s *Service) undecidable(ctx context.Context, h Hold, err error) error {
	st, statusErr := s.cfg.Store.Status(ctx, h.ID)
	if statusErr != nil {
		st = h.Status
	}
	switch {
	case errors.Is(err, ErrDecided) && st.By != "":
		return fmt.Errorf("decide about %s: %w: %s by %s at %s; the first decision stands", h.ID, ErrDecided, st.State, st.By, st.DecidedAt.UTC().Format(time.RFC3339))
	case errors.Is(err, ErrExpired):
		return fmt.Errorf("decide about %s: %w at %s; the caller must make the call again", h.ID, ErrExpired, h.Expires.UTC().Format(time.RFC3339))
	case errors.Is(err, ErrCanceled):
		return fmt.Errorf("decide about %s: %w before a decision; the caller must make the call again", h.ID, ErrCanceled)
	case errors.Is(err, ErrDecided), errors.Is(err, ErrNotFound):
		return fmt.Errorf("decide about %s: %w", h.ID, err)
	}
	s.cfg.Metrics.storeErr.Inc()
	return fmt.Errorf("decide about %s: the approval store is away, try again: %w", h.ID, err)
}

func checkComment(comment string) error {
	switch {
	case len(comment) > maxComment:
		return fmt.Errorf("%w: the comment is longer than %d bytes", ErrInvalid, maxComment)
	case !utf8.ValidString(comment):
		return fmt.Errorf("%w: the comment is not valid UTF-8", ErrInvalid)
	case strings.ContainsFunc(comment, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		return fmt.Errorf("%w: the comment holds control characters", ErrInvalid)
	}
	return nil
}

// Get returns a hold with its request as it came. What people look at is
// [Service.Show].
func (s *Service) Get(ctx context.Context, id string) (Hold, error) {
	h, err := s.cfg.Store.Get(ctx, strings.ToLower(strings.TrimSpace(id)))
	switch {
	case errors.Is(err, ErrNotFound):
		return Hold{}, fmt.Errorf("approval %q: %w; 'callgate approvals list' shows those that are open", id, ErrNotFound)
	case err != nil:
		s.cfg.Metrics.storeErr.Inc()
		return Hold{}, fmt.Errorf("approval %q: the approval store is away, try again: %w", id, err)
	}
	return h, nil
}

// List returns holds without their bodies, the newest first. With by, only
// those that by may decide about.
func (s *Service) List(ctx context.Context, f Filter, by *call.Identity) ([]Hold, error) {
	var out []Hold
	size, page := f.Size(), f
	for len(out) < size {
		holds, err := s.cfg.Store.List(ctx, page)
		if err != nil {
			s.cfg.Metrics.storeErr.Inc()
			return nil, fmt.Errorf("list approvals: the approval store is away, try again: %w", err)
		}
		for i := range holds {
			if len(out) < size && (by == nil || mayDecide(&holds[i], *by) == nil) {
				out = append(out, holds[i])
			}
		}
		if len(holds) < page.Size() {
			break
		}
		last := holds[len(holds)-1]
		page.Before, page.BeforeID = last.AskedAt, last.ID
	}
	return out, nil
}

func (s *Service) record(ctx context.Context, h *Hold, kind call.EventKind, step, by, comment string) error {
	return s.cfg.Recorder.Record(ctx, call.Event{Kind: kind, CallID: h.CallID, Time: time.Now(), Approval: &call.ApprovalEvent{
		ID: h.ID, Step: step, By: by, Comment: comment, Rule: h.Rule, Expires: h.Expires, Binding: s.keyed(h.Binding), Function: h.Function,
	}})
}

func (s *Service) keyed(binding [32]byte) [32]byte {
	if s.cfg.Key == nil {
		return binding
	}
	h := hmac.New(sha256.New, s.cfg.Key)
	h.Write([]byte("callgate/binding/v1"))
	h.Write(binding[:])
	return [32]byte(h.Sum(nil))
}

// Erase removes the requests of held calls: arguments, path and body, and what
// an approval was bound to. It tells how many there were. Those that nobody has
// decided yet, or that may still be used, are left.
func (s *Service) Erase(ctx context.Context, calls []call.ID) (int, error) {
	if len(calls) == 0 {
		return 0, nil
	}
	n, err := s.cfg.Store.Erase(ctx, calls, time.Now())
	if err != nil {
		s.cfg.Metrics.storeErr.Inc()
		return 0, fmt.Errorf("erase held requests: the approval store is away, try again: %w", err)
	}
	return n, nil
}
