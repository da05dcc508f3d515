package clickhouse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// RequeueConfig is what [Requeue] needs.
type RequeueConfig struct {
	Dir   string // of the spool, whose quarantine is meant
	DB    *DB
	Files []string // only these; none means all
	// DryRun looks at the files and at what ClickHouse has, and sends nothing.
	DryRun bool
	Log    *slog.Logger
}

// What became of a quarantined row.
const (
	RequeueSent    = "sent"    // it is in ClickHouse now, and its file is gone
	RequeuePresent = "present" // it was there already, and its file is gone
	RequeueReady   = "ready"   // it would be sent
	RequeueRefused = "refused" // ClickHouse refuses it still; its file stays
	RequeueDamaged = "damaged" // the file can't be read; it stays as it is
)

// Requeued is what became of one row.
type Requeued struct {
	File   string `json:"file"`
	Table  string `json:"table,omitempty"`
	Spool  string `json:"spool,omitempty"`
	Index  uint64 `json:"spool_index"`
	Result string `json:"result"`
	Why    string `json:"why,omitempty"` // where it is refused or damaged; of a row that is ready, why it was refused
}

// lockPatience is how long another process may be sending the same rows.
const lockPatience = 30 * time.Second

// Requeue sends rows from quarantine again, one by one. It is safe while a
// Shipper of the same spool runs, which is done with a row once it lies there:
// it looks whether the row is in ClickHouse, sends it under the token that the
// Shipper would use, and removes the file when the row is there. So a kill at
// any time loses no row and doubles none.
//
// An error means that ClickHouse or the disk could not be used; what is
// returned with it was done.
func Requeue(ctx context.Context, cfg RequeueConfig) (_ []Requeued, err error) {
	k := quarantine{QuarantineDir(cfg.Dir)}
	files := cfg.Files
	if len(files) == 0 {
		if files, err = filepath.Glob(filepath.Join(k.dir, "*.json")); err != nil {
			return nil, fmt.Errorf("list the quarantine: %w", err)
		}
	}
	codec, err := audit.NewCodec()
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, lockPatience, errors.New("another process sends its rows; try again later"))
	defer cancel()
	unlock, err := k.lock(bounded)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r := requeue{cfg: cfg, codec: codec, metrics: NewMetrics(prometheus.NewRegistry())}
	now, err := cfg.DB.now(ctx)
	if err != nil {
		return nil, err
	}
	r.clock = clock{now, time.Now()}
	slices.Sort(files)
	list := []Requeued{}
	for _, file := range files {
		one, err := r.file(ctx, file)
		if errors.Is(err, fs.ErrNotExist) && len(cfg.Files) == 0 {
			continue // gone since it was listed
		}
		if err != nil {
			return list, err
		}
		list = append(list, one)
	}
	return list, nil
}

type requeue struct {
	cfg     RequeueConfig
	codec   *audit.Codec
	metrics *Metrics
	clock   clock
}

// maxQuarantined bounds a file: a record's bytes in base64, and then some.
const maxQuarantined = 1 << 30

// file sends the row of one file.
func (r *requeue) file(ctx context.Context, path string) (Requeued, error) {
	one := Requeued{File: path}
	info, err := os.Stat(path)
	if err != nil {
		return one, fmt.Errorf("read a quarantined row: %w", err)
	}
	if info.Size() > maxQuarantined {
		one.Result, one.Why = RequeueDamaged, fmt.Sprintf("%d bytes are more than a row can have", info.Size())
		return one, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return one, fmt.Errorf("read a quarantined row: %w", err)
	}
	q, it, err := r.read(path, data)
	if err != nil {
		one.Result, one.Why = RequeueDamaged, err.Error()
		return one, nil
	}
	one.Table, one.Spool, one.Index = q.Table, q.Spool, q.Index
	s := r.shipper(q.Spool)
	b := &batch{table: q.Table, items: []item{it}}
	if err := s.removePresent(ctx, b); err != nil {
		return one, err
	}
	switch {
	case len(b.items) == 0:
		one.Result = RequeuePresent
	case r.cfg.DryRun:
		one.Result, one.Why = RequeueReady, q.Reason
	default:
		err := s.insert(ctx, b)
		var refused *refusedError
		if errors.As(err, &refused) {
			one.Result, one.Why = RequeueRefused, refused.Error()
			return one, nil
		}
		if err != nil {
			return one, err
		}
		one.Result = RequeueSent
	}
	if r.cfg.DryRun {
		return one, nil
	}
	// A call's legs may have come to events since its row was refused; or this
	// is one, and the row is there.
	if e := it.events[0]; e != nil && (q.Table == tableCalls || q.Unjoined) {
		if err := s.completeAll(ctx, []uuid.UUID{e.CallID}); err != nil {
			return one, err
		}
	}
	if err := os.Remove(path); err != nil {
		return one, fmt.Errorf("the row is in ClickHouse, its file can't be removed: %w", err)
	}
	return one, audit.SyncDir(filepath.Dir(path))
}

// shipper is a Shipper that inserts rows of a spool and does nothing else.
func (r *requeue) shipper(spool string) *Shipper {
	return &Shipper{cfg: ShipperConfig{Log: r.cfg.Log, Metrics: r.metrics}, id: spool, codec: r.codec, db: r.cfg.DB,
		inserts: insertsInto(r.cfg.DB.cfg.Database), clock: r.clock}
}

// read turns a file into the row that it holds. It refuses what the Shipper
// would not have written: such a file was damaged or changed.
func (r *requeue) read(path string, data []byte) (q quarantined, it item, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return q, it, fmt.Errorf("it is no quarantined row: %w", err)
	}
	if dec.More() {
		return q, it, errors.New("it is no quarantined row: something follows it")
	}
	sealed, err := q.seal()
	if err != nil {
		return q, it, err
	}
	if !bytes.Equal(sealed.Sum, q.Sum) {
		return q, it, errors.New("its content does not have its checksum: the file was damaged or changed")
	}
	if id, err := uuid.Parse(q.Spool); err != nil || id.String() != q.Spool {
		return q, it, fmt.Errorf("spool %q is no id", q.Spool)
	}
	if want := filepath.Base((quarantine{}).path(q.Table, q.Index)); filepath.Base(path) != want {
		return q, it, fmt.Errorf("it holds the row of %s", want)
	}
	events := make([]*call.Event, len(q.Events))
	for i, kept := range q.Events {
		rec := audit.Record{Index: q.Index, Leaf: kept.Leaf, Aside: kept.Aside, Head: kept.Head, Tail: kept.Tail}
		e, err := rec.Event(r.codec)
		switch {
		case err == nil:
		case errors.Is(err, audit.ErrFutureLeaf) || q.Table != tableEvents:
			return q, it, err
		default:
			// The ledger keeps what can't be read as it is.
			events = []*call.Event{nil}
			continue
		}
		if q.Table == tableCalls || q.Unjoined {
			if err := audit.CheckContent(&e); err != nil {
				return q, it, fmt.Errorf("its %s event: %w", e.Kind, err)
			}
		}
		events[i] = &e
	}
	it, err = r.item(q, events)
	return q, it, err
}

// item makes the row again, as the Shipper did.
func (r *requeue) item(q quarantined, events []*call.Event) (item, error) {
	it := item{index: q.Index, events: events}
	if len(events) == 0 || q.Table != tableCalls && len(events) != 1 {
		return it, fmt.Errorf("a row of %s is not made of %d events", q.Table, len(events))
	}
	first := events[0]
	switch q.Table {
	case tableEvents:
		kept := q.Events[0]
		row := &eventRow{Spool: q.Spool, Index: q.Index, Leaf: kept.Leaf, Unjoined: q.Unjoined, Kind: "unreadable", Time: firstTime}
		retain := call.Retain{}
		if first != nil && first.Answered != nil {
			retain = first.Answered.Retain
		}
		row.keep(audit.Record{Aside: kept.Aside, Head: kept.Head, Tail: kept.Tail}, retain)
		if first != nil {
			row.Kind, row.Time, row.CallID = string(first.Kind), clamp(first.Time), first.CallID
		}
		it.row, it.time = row, row.Time
	case tableApprovals:
		if first.Approval == nil {
			return it, fmt.Errorf("a row of %s is not made of a %s event", q.Table, first.Kind)
		}
		row := newApprovalRow(first, q.Spool, q.Index)
		it.row, it.time = row, row.Time
	case tableCalls:
		if first.Decided == nil {
			return it, fmt.Errorf("a row of %s does not begin with a %s event", q.Table, first.Kind)
		}
		row := newRow(first, q.Spool, q.Index)
		for _, e := range events[1:] {
			if e.CallID != first.CallID || e.Answered == nil && e.Finished == nil {
				return it, fmt.Errorf("its %s event is no leg of its call", e.Kind)
			}
			row.add(e)
		}
		it.row, it.time = row, row.Time
	default:
		return it, fmt.Errorf("there is no table %q", q.Table)
	}
	return it, nil
}
