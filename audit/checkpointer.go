package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/callgate/callgate/audit/ledger"
)

// Witness keeps checkpoints where whoever can change the trail can't change
// them.
type Witness interface {
	// Put returns when the signed checkpoint is kept.
	Put(ctx context.Context, signed []byte) error
}

// CheckpointerConfig is what a [Checkpointer] needs.
type CheckpointerConfig struct {
	Spool   *Spool
	Keys    Keys
	Node    string        // the replica, for events and rows
	Every   time.Duration // between checkpoints; 0 means 10 s
	Witness Witness       // nil means none
	Log     *slog.Logger
	Metrics *CheckpointMetrics
	Now     func() time.Time // nil means time.Now
}

// SignedCheckpoint is a checkpoint as it was signed.
type SignedCheckpoint struct {
	ledger.Checkpoint
	Signed []byte
	Node   string
	// Frontier lets a reader go on from here without the events before; once
	// an hour, else nil.
	Frontier []ledger.Hash
	// Prefixes are the first PrefixSize bytes of the leaf hashes of the events
	// before Size, as far back as the checkpoint before. They are not signed:
	// they tell which event was changed, where the root tells that one was.
	Prefixes []byte

	// handover says that a key and its successor both signed it; it is never
	// let go.
	handover bool
}

// Checkpointer signs the tree of a spool again and again, whether it grew or
// not: a replica that falls silent can then be told from an idle one.
type Checkpointer struct {
	cfg CheckpointerConfig

	signing  sync.Mutex // one checkpoint at a time
	resumed  bool       // the handovers of an earlier run are pending
	hour     time.Time  // of the last frontier
	prefixes []byte     // that no checkpoint has

	mu      sync.Mutex
	last    SignedCheckpoint
	pending []SignedCheckpoint // not in ClickHouse yet, oldest first
	failed  error              // why the last attempt failed

	offering  chan struct{} // held while the witness has a checkpoint to keep
	toWitness chan []byte   // the newest that the witness lacks
}

const (
	defaultEvery = 10 * time.Second
	// maxPendingCheckpoints bounds those that wait for ClickHouse, about
	// half a day of them; then every other one is let go.
	maxPendingCheckpoints = 4096
	witnessTimeout        = 5 * time.Second
)

// NewCheckpointer returns a Checkpointer. Run signs.
func NewCheckpointer(cfg CheckpointerConfig) *Checkpointer {
	if cfg.Every <= 0 {
		cfg.Every = defaultEvery
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Checkpointer{cfg: cfg, toWitness: make(chan []byte, 1), offering: make(chan struct{}, 1)}
}

// Origin is the name of a spool's log in its checkpoints.
func Origin(spool string) string { return "callgate/" + spool }

// Run signs until ctx ends. It returns nil.
func (c *Checkpointer) Run(ctx context.Context) error {
	var witness sync.WaitGroup
	witness.Go(func() { c.inform(ctx) })
	defer witness.Wait()
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for {
		if err := c.Sign(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.ErrorContext(ctx, "the ledger could not be signed; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sign signs the tree as it is now.
func (c *Checkpointer) Sign(ctx context.Context) error {
	c.signing.Lock()
	defer c.signing.Unlock()
	err := c.sign(ctx)
	c.mu.Lock()
	c.failed = err
	c.mu.Unlock()
	if err != nil {
		c.cfg.Metrics.failures.Inc()
	}
	return err
}

func (c *Checkpointer) sign(ctx context.Context) error {
	ring, err := c.keys(ctx)
	if err != nil {
		return err
	}
	if err := c.resume(ring); err != nil {
		return err
	}
	if err := c.tell(ctx, ring); err != nil {
		return err
	}
	// A key that has a successor still signs beside it, once: that is how who
	// trusts only the old key comes to trust the new one.
	var signers []note.Signer
	for _, k := range ring.Signing() {
		s, err := note.NewSigner(k.Secret)
		if err != nil {
			return fmt.Errorf("use ledger key %s: %w", k.ID(), err)
		}
		signers = append(signers, s)
	}
	now := c.cfg.Now()
	tree, prefixes := c.cfg.Spool.Cut()
	c.prefixes = append(c.prefixes, prefixes...) // of an attempt that failed, too
	c.prefixes = c.prefixes[max(0, len(c.prefixes)-maxPrefixes):]
	cp := SignedCheckpoint{Node: c.cfg.Node, Prefixes: c.prefixes, handover: len(signers) > 1, Checkpoint: ledger.Checkpoint{
		Origin: Origin(c.cfg.Spool.ID()), Size: tree.Size(), Root: tree.Root(), Time: now.UTC()}}
	if cp.Signed, err = cp.Sign(signers...); err != nil {
		return err
	}
	// What is signed must never be forgotten, else the log could fork.
	if err := c.cfg.Spool.Keep(); err != nil {
		return err
	}
	if hour := now.Truncate(time.Hour); !hour.Equal(c.hour) {
		c.hour, cp.Frontier = hour, tree.Frontier()
	}
	if err := c.told(ctx, ring, cp); err != nil {
		return err
	}
	c.prefixes = nil
	c.cfg.Metrics.signed.Inc()
	c.cfg.Metrics.size.Set(float64(cp.Size))
	c.cfg.Metrics.time.Set(float64(now.UnixMilli()) / 1000)

	c.mu.Lock()
	grew := c.last.Signed == nil || cp.Size > c.last.Size
	c.last = cp
	c.pending = append(c.pending, cp)
	if len(c.pending) > maxPendingCheckpoints {
		c.pending = thin(c.pending)
	}
	c.mu.Unlock()
	if grew && c.cfg.Witness != nil {
		select {
		case <-c.toWitness: // an older one says less
		default:
		}
		c.toWitness <- cp.Signed
	}
	return nil
}

// thin lets every other checkpoint go that has no frontier and hands nothing
// over. The later ones cover what it covered.
func thin(list []SignedCheckpoint) []SignedCheckpoint {
	var kept []SignedCheckpoint
	var prefixes []byte
	for i, cp := range list {
		cp.Prefixes = append(prefixes[:len(prefixes):len(prefixes)], cp.Prefixes...)
		prefixes = cp.Prefixes
		if i%2 == 1 || cp.Frontier != nil || cp.handover || i == len(list)-1 {
			kept = append(kept, cp)
			prefixes = nil
		}
	}
	return kept
}

// keys returns the ring, with a key that can sign.
func (c *Checkpointer) keys(ctx context.Context) (ledger.Ring, error) {
	ring, err := c.cfg.Keys.Load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	if len(ring.Signing()) > 0 {
		return ring, nil
	}
	made, err := c.cfg.Keys.Add(ctx)
	if err != nil {
		return ring, err
	}
	c.cfg.Log.InfoContext(ctx, "a key to sign the ledger was made; give its public half to your auditors", "key", made.Verifier, "file", c.cfg.Keys.Path)
	return c.cfg.Keys.Load()
}

// inform brings checkpoints to the witness, and the newest again until it has
// it. What it lacks when ctx ends is left to End.
func (c *Checkpointer) inform(ctx context.Context) {
	var signed []byte
	var retry <-chan time.Time
	for {
		select {
		case signed = <-c.toWitness:
		case <-retry:
		case <-ctx.Done():
			if retry != nil {
				select {
				case c.toWitness <- signed:
				default: // a newer one waits
				}
			}
			return
		}
		if retry = nil; !c.put(ctx, signed) {
			retry = time.After(c.cfg.Every)
		}
	}
}

func (c *Checkpointer) put(ctx context.Context, signed []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	if err := c.offer(ctx, signed); err != nil {
		c.cfg.Metrics.unwitnessed.Inc()
		c.cfg.Log.WarnContext(ctx, "the witness did not take a checkpoint; it is tried again", "error", err)
		return false
	}
	return true
}

// offer gives the witness a checkpoint. A disk elsewhere may hang for good, and
// nothing cuts that short: it is not waited for, and gets nothing more until it
// comes back.
func (c *Checkpointer) offer(ctx context.Context, signed []byte) error {
	done := make(chan error, 1)
	select {
	case c.offering <- struct{}{}:
		go func() {
			done <- c.cfg.Witness.Put(ctx, signed)
			<-c.offering
		}()
	case <-ctx.Done():
		return errors.New("witness: it hangs")
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		select {
		case err := <-done:
			return err
		default:
			return fmt.Errorf("witness: it does not answer: %w", context.Cause(ctx))
		}
	}
}

// End signs a last time, after all events, and brings that to the witness.
func (c *Checkpointer) End(ctx context.Context) error {
	err := c.Sign(ctx)
	select {
	case signed := <-c.toWitness:
		c.put(ctx, signed)
	default:
	}
	return err
}

// Pending are the checkpoints that ClickHouse lacks and all of whose events it
// has, which are those below shipped.
func (c *Checkpointer) Pending(shipped uint64) []SignedCheckpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.pending) && c.pending[n].Size <= shipped {
		n++
	}
	return append([]SignedCheckpoint(nil), c.pending[:n]...)
}

// Shipped forgets a checkpoint that ClickHouse has, and those before it.
func (c *Checkpointer) Shipped(cp SignedCheckpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) > 0 && !c.pending[0].Time.After(cp.Time) && c.pending[0].Size <= cp.Size {
		c.pending = c.pending[1:]
	}
}

// CheckpointStatus is how signing stands.
type CheckpointStatus struct {
	Size    uint64    `json:"size"`    // events that the last checkpoint covers
	Time    time.Time `json:"time"`    // when it was signed
	Pending int       `json:"pending"` // checkpoints that ClickHouse lacks
	Err     string    `json:"error,omitempty"`
}

// Status tells how signing stands.
func (c *Checkpointer) Status() CheckpointStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := CheckpointStatus{Size: c.last.Size, Time: c.last.Time, Pending: len(c.pending)}
	if c.failed != nil {
		st.Err = c.failed.Error()
	}
	return st
}

// CheckpointMetrics tells how signing does.
type CheckpointMetrics struct {
	signed, failures, unwitnessed prometheus.Counter
	size, time                    prometheus.Gauge
}

// NewCheckpointMetrics registers the metrics. Alert on the age of
// callgate_ledger_checkpoint_time_seconds and on any failure.
func NewCheckpointMetrics(r prometheus.Registerer) *CheckpointMetrics {
	counter := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: "callgate_ledger_" + name, Help: help})
		r.MustRegister(m)
		return m
	}
	gauge := func(name, help string) prometheus.Gauge {
		m := prometheus.NewGauge(prometheus.GaugeOpts{Name: "callgate_ledger_" + name, Help: help})
		r.MustRegister(m)
		return m
	}
	return &CheckpointMetrics{
		signed:      counter("checkpoints_total", "Checkpoints signed."),
		failures:    counter("checkpoint_failures_total", "Checkpoints that could not be signed."),
		unwitnessed: counter("witness_failures_total", "Attempts at which the witness did not take a checkpoint."),
		size:        gauge("checkpoint_events", "Events that the last checkpoint covers."),
		time:        gauge("checkpoint_time_seconds", "When the last checkpoint was signed, in seconds since 1970."),
	}
}
