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

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
)

// Recorder makes an event durable. It returns when the event is on disk.
type Recorder interface {
	Record(context.Context, call.Event) error
}

// Notifier tells people what happens to holds. Both methods must return at
// once; the hold goes on whatever becomes of the telling.
type Notifier interface {
	// Targets names who is told of a hold. The store keeps a notice of each
	// of its steps for each of them; see [Outbox].
	Targets(Hold) []string
	// Stepped says that this process took a step of a hold.
	Stepped(Hold, Step)
}

// Config is what a [Service] needs.
type Config struct {
	Store    Store
	Recorder Recorder
	Log      *slog.Logger
	Metrics  *Metrics
	// Notifier may be nil.
	Notifier Notifier
	// Recorded tells whether the trail shows a step already that this process
	// finds without knowing whether it was recorded: who took it died. It is asked
	// again later where it can't tell yet, which is its error. Nil: it is recorded,
	// maybe once more under the same number.
	Recorded func(ctx context.Context, id string, number int) (bool, error)
	// TrailLag is for how long after a step only who took it records it. Default
	// 10s, which is longer than a step may take.
	TrailLag time.Duration
	// Key keys the hash by which events name what an approval is bound to: who
	// reads them can't tell a request by guessing. Nil leaves it unkeyed. It keys
	// what stands for credentials in the store, too; see [Request].
	Key []byte
	// Poll is how often the store is asked for decisions made by other
	// processes. Default 250ms.
	Poll time.Duration
	// Admit refuses whoever has been revoked: what they delegated does not
	// count either. Nil: nobody.
	Admit func(call.Identity) error
	// Keep is how long ended holds stay in the store. Default 30 days; the
	// audit trail keeps its own record.
	Keep time.Duration
	// StatusURL is where a caller that comes again can ask how far its approval
	// is, and PageURL where a person can look at it until a time. Both may be nil.
	StatusURL func(id string) string
	PageURL   func(id string, until time.Time) string
	// MaxOpen bounds the open holds of one caller: they cost it little, and
	// people much. Default 100.
	MaxOpen int
}

// Service holds calls and takes people's decisions.
type Service struct {
	cfg  Config
	name string // of this replica, among those that use the store
	hide *redact.Redactor

	stopping chan struct{} // closed when Run is about to end
	stopOnce sync.Once

	mu       sync.Mutex
	waiting  map[string][]*waiter // by hold
	recorded []Notice             // steps that the trail has, and the store does not know of it
	attended time.Time            // until then the store knows that this replica is there
}

const (
	defaultPoll = 250 * time.Millisecond
	defaultKeep = 30 * 24 * time.Hour
	// defaultMaxOpen is more than anybody decides about.
	defaultMaxOpen = 100
	// stepTimeout bounds one step of the store or the recorder, so that a
	// call isn't kept by one that hangs.
	stepTimeout = 5 * time.Second
	// mostLooked bounds how many holds, the newest, are looked at for those that
	// concern somebody: whoever has a token can ask. Those that wait are all looked
	// at, so that others' don't hide one.
	mostLooked = 20_000
	// maxComment bounds what an approver can write, in bytes.
	maxComment = 4096
)

// New returns a Service. [Service.Run] must run for decisions of other
// processes to be seen and for abandoned holds to expire.
func New(cfg Config) *Service {
	if cfg.Poll <= 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.MaxOpen <= 0 {
		cfg.MaxOpen = defaultMaxOpen
	}
	if cfg.Admit == nil {
		cfg.Admit = func(call.Identity) error { return nil }
	}
	if cfg.TrailLag <= 0 {
		cfg.TrailLag = 2 * stepTimeout
	}
	if cfg.Keep <= 0 {
		cfg.Keep = defaultKeep
	}
	return &Service{cfg: cfg, hide: redactor(cfg.Key), name: newID("rep_"), stopping: make(chan struct{}), waiting: map[string][]*waiter{}}
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
// those that by may decide about now.
func (s *Service) List(ctx context.Context, f Filter, by *call.Identity) ([]Hold, error) {
	if by == nil {
		return s.pick(ctx, f, nil)
	}
	return s.pick(ctx, f, func(h *Hold, delegations []Delegation, now time.Time) bool {
		_, err := mayDecide(h, *by, true, delegations, now)
		return err == nil
	})
}

// Mine is List for those that concern by: as who asked, as an approver of any
// stage, or as a delegate.
func (s *Service) Mine(ctx context.Context, f Filter, by call.Identity) ([]Hold, error) {
	return s.pick(ctx, f, func(h *Hold, delegations []Delegation, _ time.Time) bool { return concerns(h, by, delegations) })
}

func (s *Service) pick(ctx context.Context, f Filter, keep func(*Hold, []Delegation, time.Time) bool) ([]Hold, error) {
	away := func(err error) error {
		s.cfg.Metrics.storeErr.Inc()
		return fmt.Errorf("list approvals: the approval store is away, try again: %w", err)
	}
	now := time.Now()
	delegations, err := s.inForce(ctx, now)
	if err != nil {
		return nil, away(err)
	}
	var out []Hold
	size, page := f.Size(), f
	bounded := f.State != Open && !f.Unreviewed // of those each caller has few
	for looked := 0; len(out) < size && !(bounded && looked >= mostLooked); looked += page.Size() {
		holds, err := s.cfg.Store.List(ctx, page)
		if err != nil {
			return nil, away(err)
		}
		for i := range holds {
			if len(out) < size && (keep == nil || keep(&holds[i], delegations, now)) {
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

// took puts the steps of a change on record and tells of them. The error is
// that of the first that can't be recorded; the trail gets it later.
func (s *Service) took(ctx context.Context, c Change) error {
	for i, step := range c.Steps {
		if err := s.cfg.Recorder.Record(ctx, s.event(&c.Hold, step)); err != nil {
			if step.Name != StepAsked { // nobody is asked then
				for _, step := range c.Steps[i:] {
					s.tell(c.Hold, step)
				}
			}
			return err
		}
		s.mu.Lock()
		s.recorded = append(s.recorded, Notice{Target: TrailTarget, Hold: c.Hold.ID, Step: step})
		s.mu.Unlock()
		s.tell(c.Hold, step)
	}
	return nil
}

func (s *Service) tell(h Hold, step Step) {
	s.cfg.Metrics.steps.WithLabelValues(string(step.Name)).Inc()
	if s.cfg.Notifier != nil {
		s.cfg.Notifier.Stepped(h, step)
	}
}

// event is a step as the trail has it.
func (s *Service) event(h *Hold, step Step) call.Event {
	kind, id := call.Approved, h.CallID
	if step.Name == StepAsked {
		kind = call.Held
	}
	if step.Call != (call.ID{}) {
		id = step.Call
	}
	expires := h.Expires
	if !step.Until.IsZero() {
		expires = step.Until
	}
	return call.Event{Kind: kind, CallID: id, Time: step.At, Approval: &call.ApprovalEvent{
		ID: h.ID, Step: string(step.Name), By: step.By, Comment: step.Comment, Rule: h.Rule, Expires: expires,
		Binding: s.keyed(h.Binding), Function: h.Function, Connection: h.Connection,
		InPlaceOf: step.For, Stage: step.Stage, Stages: len(h.Terms.Stages), State: string(step.State), Number: step.N,
	}}
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
