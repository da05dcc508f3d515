package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// ShipperConfig is what a [Shipper] needs.
type ShipperConfig struct {
	Spool *audit.Spool
	DB    *DB
	// SettleAfter is how long a call's row waits for a leg that is missing.
	// 0 means 60 s.
	SettleAfter time.Duration
	// Checkpoints are shipped once all events that they cover are; nil means
	// that nobody signs.
	Checkpoints Checkpoints
	Log         *slog.Logger
	Metrics     *Metrics
}

// Checkpoints gives out signed checkpoints, oldest first.
type Checkpoints interface {
	// Pending are those that cover only events below shipped.
	Pending(shipped uint64) []audit.SignedCheckpoint
	// Shipped forgets one and those before it.
	Shipped(audit.SignedCheckpoint)
}

const (
	defaultSettle = time.Minute
	// One round ships at most this much, so memory is bounded whatever the
	// backlog.
	roundRecords = 10_000
	roundBytes   = 32 << 20
	// linger is how long the first event of an idle spool waits for company,
	// and pace how far apart rounds begin that don't fill: each insert costs
	// ClickHouse a part to merge.
	linger = 50 * time.Millisecond
	pace   = 200 * time.Millisecond
	tick   = 250 * time.Millisecond
	// countEvery is how often the quarantine is counted.
	countEvery = 5 * time.Second
)

// Shipper takes the events of one spool to ClickHouse. The package comment
// tells how.
type Shipper struct {
	cfg        ShipperConfig
	spool      *audit.Spool
	id         string // of the spool
	codec      *audit.Codec
	db         *DB
	quarantine quarantine
	inserts    map[string]string // INSERT statements by table
	away       atomic.Bool       // ClickHouse failed last time

	// Only Run's goroutine touches these.
	file      *stateFile
	state     state
	reader    *audit.Reader
	ahead     *chunk // what was read while the round before was sent
	calls     *unsettled
	newest    time.Time // time of the newest event read
	oldest    time.Time // time of the first event read that is not shipped; zero where all are
	lastLate  time.Time // when late legs were last looked for
	lateHint  bool      // an unjoined leg was shipped, which may be of our own
	began     time.Time // when the last round began
	clock     clock     // of ClickHouse
	trimmed   uint64    // up to where the spool was told to delete
	trimmedAt time.Time
	countedAt time.Time // when the quarantine was last counted

	mu     sync.Mutex
	status Status
}

// NewShipper returns a Shipper. Run ships.
func NewShipper(cfg ShipperConfig) *Shipper {
	if cfg.SettleAfter == 0 {
		cfg.SettleAfter = defaultSettle
	}
	return &Shipper{
		cfg: cfg, spool: cfg.Spool, id: cfg.Spool.ID(), codec: cfg.Spool.Codec(), db: cfg.DB, calls: newUnsettled(),
		quarantine: quarantine{dir: QuarantineDir(cfg.Spool.Dir())},
		inserts:    insertsInto(cfg.DB.cfg.Database),
	}
}

// Run ships until ctx ends, and then returns nil. ClickHouse may be away when
// it starts, and for any time later. It returns an error, once ctx ends, where
// it had to stop before: a newer version wrote the spool. Until then events
// stay in the spool.
func (s *Shipper) Run(ctx context.Context) error {
	for {
		err := s.session(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, audit.ErrFutureLeaf):
			s.cfg.Log.ErrorContext(ctx, "shipping has stopped; nothing is lost, events stay in the spool", "error", err)
			s.cfg.Metrics.stopped.Set(1)
			s.mu.Lock()
			s.status.Stopped = err.Error()
			s.mu.Unlock()
			<-ctx.Done()
			return fmt.Errorf("ship the audit trail: %w", err)
		}
		s.cfg.Log.ErrorContext(ctx, "shipping failed; it starts again from what is on disk", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lastPause):
		}
	}
}

// session ships from what is on disk until something fails that is not
// ClickHouse's doing.
func (s *Shipper) session(ctx context.Context) (err error) {
	// Made while there is room for it: when ClickHouse comes back after the
	// disk has filled, nothing could be shipped without this file, and so no
	// room be made.
	file, _, _, err := openState(s.statePath())
	if err == nil {
		err = file.close()
	}
	if err != nil {
		return err
	}
	err = s.persist(ctx, "migrate the schema", func(ctx context.Context) error { return s.db.Migrate(ctx, s.cfg.Log) })
	if err != nil {
		return err
	}
	if err := s.persist(ctx, "ask for the time", s.setClock); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	if err := s.resume(ctx); err != nil {
		return err
	}
	for {
		more, err := s.round(ctx)
		if err != nil {
			return err
		}
		s.late(ctx)
		s.checkpoints(ctx)
		if err := s.trim(); err != nil {
			return err
		}
		if !more {
			if err := s.idle(ctx); err != nil {
				return err
			}
		}
	}
}

func (s *Shipper) statePath() string { return filepath.Join(s.spool.Dir(), "ship.state") }

// end lets go of what a session holds.
func (s *Shipper) end() error {
	var errs []error
	s.ahead = nil
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
		s.reader = nil
	}
	if s.file != nil {
		errs = append(errs, s.file.close())
		s.file = nil
	}
	return errors.Join(errs...)
}

// round reads what is new, ships it, and settles the calls that can be. It
// reports whether there is more to do at once.
func (s *Shipper) round(ctx context.Context) (more bool, err error) {
	s.began = time.Now()
	read := s.next()
	s.tell(ctx, read.damage)
	var items items
	to, stop := read.to, read.stop
	for _, en := range read.entries {
		if err := s.take(en, s.began, &items, false); err != nil {
			to, stop = en.Index, err
			break
		}
	}
	full := len(read.entries) > roundRecords/2
	s.findElsewhere(ctx)
	// A leg in the backlog is not late, however long the backlog waited.
	caughtUp := len(read.entries) == 0
	settle, cut := s.calls.due(maxSettle, roundBytes, func(p *pending) bool {
		return s.began.Sub(p.read) >= s.cfg.SettleAfter &&
			(caughtUp || s.newest.Sub(p.decidedAt) >= s.cfg.SettleAfter)
	})
	if items.empty() && len(settle) == 0 {
		s.state.Events, s.state.To = to, to
		s.state.Low = s.calls.low(to)
		s.measure()
		return false, stop
	}
	rows, err := s.rows(settle)
	if err != nil {
		return false, err
	}
	s.state.To, s.state.Calls = to, deltas(indexes(rows))
	if err := s.spool.Keep(); err != nil {
		return false, err
	}
	if err := s.file.save(s.state); err != nil {
		return false, err
	}
	ahead := s.readAhead(full && stop == nil)
	err = s.send(ctx, items, rows, false)
	s.ahead = <-ahead
	return cut || full, errors.Join(err, stop)
}

// items are the rows that a round's records become.
type items struct{ events, approvals []item }

func (i *items) empty() bool { return len(i.events) == 0 }

// take turns a record into rows and joins it to its call. In a replay, legs
// count as unjoined, since what became of their call may be unknown; its row
// may be there without them.
func (s *Shipper) take(en entry, now time.Time, out *items, replay bool) error {
	spool, rec, e, err := s.id, en.Record, en.event, en.err
	row := &eventRow{Spool: spool, Index: rec.Index, Leaf: rec.Leaf, Until: forever}
	switch {
	case errors.Is(err, audit.ErrFutureLeaf):
		return err
	case err != nil:
		// The ledger keeps it, since the leaf is what was recorded.
		s.cfg.Metrics.broken.Inc()
		s.cfg.Log.Error("an event can't be decoded; it is in the table events as it is", "spool_index", rec.Index, "error", err)
		row.Kind = "unreadable"
		row.keep(rec, call.Retain{})
		row.Time = firstTime // the same whenever it is sent again
		out.events = append(out.events, item{index: rec.Index, time: row.Time, row: row})
		return nil
	}
	row.Time, row.Kind, row.CallID = clamp(e.Time), string(e.Kind), e.CallID
	if e.Time.After(s.newest) {
		s.newest = e.Time
	}
	if s.oldest.IsZero() && rec.Index >= s.state.Events {
		s.oldest = e.Time
	}
	switch {
	case e.Decided != nil:
		if !s.calls.decide(e, rec, now) {
			s.cfg.Log.Error("a call was decided twice; its row shows the first", "call_id", e.CallID, "spool_index", rec.Index)
			row.Unjoined = true
			row.keep(rec, e.Decided.Retain)
		}
	case e.Answered != nil, e.Finished != nil:
		if !s.calls.join(e, rec) || replay {
			row.Unjoined = true
			if e.Answered != nil {
				row.keep(rec, e.Answered.Retain)
			}
			s.lateHint = true
		}
	case e.Approval != nil:
		out.approvals = append(out.approvals, item{index: rec.Index, time: row.Time, events: []*call.Event{e}, row: newApprovalRow(e, spool, rec.Index)})
	}
	out.events = append(out.events, item{index: rec.Index, time: row.Time, row: row})
	return nil
}

// rows makes the rows of calls that settle now.
func (s *Shipper) rows(settle []*pending) ([]item, error) {
	list := make([]item, 0, len(settle))
	for _, p := range settle {
		var events []*call.Event
		for _, l := range []*leg{p.decided, p.answered, p.finished} {
			if l == nil {
				continue
			}
			if l.event == nil {
				rec, err := s.spool.Fetch(l.place)
				if err != nil {
					return nil, err
				}
				e, err := rec.Own(s.codec)
				if err != nil {
					return nil, err
				}
				l.event = &e
			}
			events = append(events, l.event)
		}
		row := newRow(events[0], s.id, p.index)
		for _, e := range events[1:] {
			row.add(e)
		}
		list = append(list, item{index: p.index, time: row.Time, row: row, events: events})
	}
	sortItems(list)
	return list, nil
}

// send delivers what the saved plan names, and takes the plan as done.
func (s *Shipper) send(ctx context.Context, items items, rows []item, doubt bool) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, list := range [][]*batch{
		batches(tableEvents, items.events, doubt),
		batches(tableApprovals, items.approvals, doubt),
		batches(tableCalls, rows, doubt),
	} {
		for _, b := range list {
			g.Go(func() error { return s.deliver(gctx, b) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// A leg may have reached ClickHouse after we looked and before the row
	// did. Later ones are found by when they were inserted.
	var without []uuid.UUID
	for _, it := range rows {
		r := it.row.(*Row)
		unknown := r.Answered == LegUnknown || r.Finished == LegUnknown
		if unknown {
			s.cfg.Metrics.unknown.Inc()
		}
		// In doubt, the row may be there with fewer legs than we have now.
		if unknown || doubt {
			without = append(without, r.CallID)
		}
	}
	if len(without) > 0 {
		err := s.persist(ctx, "complete rows", func(ctx context.Context) error { return s.completeAll(ctx, without) })
		if err != nil {
			return err
		}
	}
	s.state.Events, s.state.Calls = s.state.To, nil
	s.state.Low, s.oldest = s.calls.low(s.state.Events), time.Time{}
	s.measure()
	return nil
}

// tell reports records that the spool lost.
func (s *Shipper) tell(ctx context.Context, damage []audit.Damage) {
	for _, d := range damage {
		s.cfg.Metrics.lost.Add(float64(d.Last - d.First + 1))
		s.cfg.Log.ErrorContext(ctx, "the spool lost records that were acknowledged; they are missing in ClickHouse",
			"file", d.File, "offset", d.Offset, "first", d.First, "last", d.Last)
	}
}

// trimEvery is how often the spool is looked at though nothing new is in
// ClickHouse: a segment may have ended since.
const trimEvery = time.Minute

// trim deletes what is no longer needed from the spool, once it is on disk
// that it is not.
func (s *Shipper) trim() error {
	since := time.Since(s.trimmedAt)
	if since < time.Second || s.state.Low == s.trimmed && since < trimEvery {
		return nil
	}
	if err := s.file.save(s.state); err != nil {
		return err
	}
	s.trimmed, s.trimmedAt = s.state.Low, time.Now()
	return s.spool.DeleteBefore(s.state.Low)
}

// idle waits for something to do.
func (s *Shipper) idle(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, tick)
	defer cancel()
	pause := tick // a closed spool brings nothing new, but calls may still settle
	switch err := s.spool.Wait(bounded, s.reader.Next()); {
	case err == nil:
		pause = max(linger, time.Until(s.began.Add(pace)))
	case bounded.Err() != nil:
		pause = 0
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pause):
		return nil
	}
}
