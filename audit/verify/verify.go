// Package verify checks an audit trail in ClickHouse against what was signed.
//
// It makes the Merkle tree of every spool again from the ledger (the table
// events) and compares it with the checkpoints that trusted keys signed: an
// event that was changed, removed, put in or moved gives another root. From the
// events it then makes every row of calls and approvals again and compares these,
// so that a changed, missing, added or doubled row shows too. Nothing that
// ClickHouse holds is believed but what a signature leads to.
package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
)

// Source is where the trail is read; see [clickhouse.DB].
type Source interface {
	Spools(ctx context.Context) ([]clickhouse.SpoolEvents, error)
	Checkpoints(ctx context.Context, spool string) ([]clickhouse.StoredCheckpoint, error)
	Ledger(ctx context.Context, spool string, from uint64, each func(*clickhouse.LedgerEvent) error) error
	Leaves(ctx context.Context, spool string, from, to uint64, each func(index uint64, leaf []byte) error) error
	EventsOf(ctx context.Context, ids []uuid.UUID, each func(*clickhouse.LedgerEvent) error) error
	Days(ctx context.Context, from, until time.Time) (map[time.Time]uint64, error)
	SliceEvents(ctx context.Context, s clickhouse.Slice, each func(*clickhouse.LedgerEvent) error) error
	SliceRows(ctx context.Context, s clickhouse.Slice, each func(*clickhouse.Row) error) error
	ApprovalSteps(ctx context.Context, spool string, from, to uint64, each func(index uint64, digest [16]byte) error) error
	Call(ctx context.Context, id uuid.UUID) (clickhouse.Row, error)
}

// Config is what is to be verified, and how.
type Config struct {
	Source Source
	// Keys are the verifier keys that are trusted. A key that the log itself
	// adds, under the signature of a trusted one, is trusted from there on.
	Keys []string
	// Witness are signed checkpoints that were kept elsewhere.
	Witness [][]byte
	// Since and Until bound the calls whose rows are compared, and Since where
	// the ledger is read from; zero times mean all.
	Since, Until time.Time
	// Progress is told what is being done; nil means nobody is.
	Progress func(string)
	Now      time.Time // zero means the clock's
}

// Kind says what is wrong.
type Kind string

// What can be wrong.
const (
	Edited    Kind = "edited"    // an event or row is not what was recorded
	Deleted   Kind = "deleted"   // it is missing
	Inserted  Kind = "inserted"  // it was never recorded
	Doubled   Kind = "doubled"   // it is there more than once
	Truncated Kind = "truncated" // the end of a log is missing
	Unsigned  Kind = "unsigned"  // no trusted key signed what a replica signs within seconds
	Forged    Kind = "forged"    // a checkpoint is not what a trusted key signed, or two contradict each other
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind   Kind      `json:"kind"`
	Table  string    `json:"table"` // events, calls, approvals or checkpoints
	Spool  string    `json:"spool,omitempty"`
	Index  uint64    `json:"spool_index"` // the first event that it concerns
	CallID uuid.UUID `json:"call_id,omitzero"`
	What   string    `json:"what"`
}

// Log is what was verified of one spool.
type Log struct {
	Spool       string    `json:"spool"`
	Node        string    `json:"node,omitempty"`
	First       uint64    `json:"first"`  // where reading began
	Events      uint64    `json:"events"` // read
	Signed      uint64    `json:"signed"` // events below are proved
	SignedAt    time.Time `json:"signed_at,omitzero"`
	Checkpoints int       `json:"checkpoints"` // that a trusted key signed
	Witnessed   int       `json:"witnessed"`   // the same, kept by the witness
}

// Report is what was found.
type Report struct {
	Logs  []Log  `json:"logs"`
	Calls uint64 `json:"calls"` // rows that were compared
	// Findings are in the order of the logs, the first bad event of each
	// first; at most maxFindings.
	Findings []Finding `json:"findings"`
	More     uint64    `json:"more_findings,omitempty"` // that are not listed
	// Unchecked tells what could not be checked, and why.
	Unchecked []string `json:"unchecked"`
	// Expired and Erased count the calls of which retention or an erasure took
	// content or row.
	Expired uint64 `json:"expired"`
	Erased  uint64 `json:"erased"`
}

// OK tells whether everything that could be checked is as it was recorded.
func (r Report) OK() bool { return len(r.Findings) == 0 }

const maxFindings = 1000

// grace is how long a row may take to follow its events.
const grace = 10 * time.Minute

// signedSoon is how long an event may take to be covered by a checkpoint: many
// times the longest interval between two.
const signedSoon = time.Minute

type verifier struct {
	cfg    Config
	codec  *audit.Codec
	report Report
	// erased are the calls whose erasure the log tells of.
	erased map[uuid.UUID]bool
	// doubts are contents that are missing; right only where an erasure, which
	// may come later in the log, took them.
	doubts []doubt
	// underWay counts calls whose row may still come.
	underWay uint64
}

type doubt struct {
	id      uuid.UUID
	finding Finding
}

// Run verifies. An error means that it could not go on, not that something is
// wrong with the trail.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.Now.IsZero() {
		cfg.Now = time.Now()
	}
	codec, err := audit.NewCodec()
	if err != nil {
		return Report{}, err
	}
	v := &verifier{cfg: cfg, codec: codec, erased: make(map[uuid.UUID]bool), report: Report{Findings: []Finding{}, Unchecked: []string{}, Logs: []Log{}}}
	spools, err := cfg.Source.Spools(ctx)
	if err != nil {
		return Report{}, err
	}
	witnessed, err := v.witnessed(&spools)
	if err != nil {
		return Report{}, err
	}
	for _, s := range spools {
		if err := v.log(ctx, s, witnessed[s.Spool]); err != nil {
			return Report{}, fmt.Errorf("verify spool %s: %w", s.Spool, err)
		}
	}
	if err := v.rows(ctx); err != nil {
		return Report{}, fmt.Errorf("verify calls: %w", err)
	}
	for _, d := range v.doubts {
		if !v.erased[d.id] {
			v.find(d.finding)
		}
	}
	return v.report, nil
}

func (v *verifier) find(f Finding) {
	if len(v.report.Findings) == maxFindings {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, f)
}

func (v *verifier) unchecked(format string, args ...any) {
	v.report.Unchecked = append(v.report.Unchecked, fmt.Sprintf(format, args...))
}

// within tells whether a call that began at t is among those to compare.
func (v *verifier) within(t time.Time) bool {
	return (v.cfg.Since.IsZero() || !t.Before(v.cfg.Since)) && (v.cfg.Until.IsZero() || t.Before(v.cfg.Until))
}

// over tells whether retention may have taken what was kept until t.
func (v *verifier) over(t time.Time) bool { return !t.IsZero() && v.cfg.Now.After(t) }

// known makes sure that a spool is in the list.
func known(spools *[]clickhouse.SpoolEvents, id string) {
	if !slices.ContainsFunc(*spools, func(s clickhouse.SpoolEvents) bool { return s.Spool == id }) {
		*spools = append(*spools, clickhouse.SpoolEvents{Spool: id})
	}
}
