package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ErrNotFound says that there is no such call.
var ErrNotFound = errors.New("no such call")

// Filter says which calls to list. Empty fields mean any.
type Filter struct {
	Since, Until time.Time // when the call came; Until is not included
	Identity     string    // the subject, or who was at work for it; "issuer|subject" where subjects are not unique
	Connection   string
	Function     string
	Decision     string // an outcome, or "allowed" or "denied" for any that was
	Reason       string
	Rule         string
	Session      string
	Limit        int // 0 means 100; at most MaxCalls
}

const (
	defaultLimit = 100
	// MaxCalls bounds a listing.
	MaxCalls = 10_000
)

// summaryColumns are the columns of [Summary].
const summaryColumns = "call_id, time, subject, kind, acting, connection, protocol, function, decision, allowed, rule, reason, message, session, " +
	"answered, finished, http_status, rpc_code, tool_error, withheld, total_us"

// Summary is what a listing shows of a call. See [Row] for the fields.
type Summary struct {
	CallID      uuid.UUID `ch:"call_id" json:"call_id"`
	Time        time.Time `ch:"time" json:"time"`
	Subject     string    `ch:"subject" json:"subject"`
	Kind        string    `ch:"kind" json:"kind"`
	Acting      string    `ch:"acting" json:"acting"`
	Connection  string    `ch:"connection" json:"connection"`
	Protocol    string    `ch:"protocol" json:"protocol"`
	Function    string    `ch:"function" json:"function"`
	Decision    string    `ch:"decision" json:"decision"`
	Allowed     bool      `ch:"allowed" json:"allowed"`
	Rule        string    `ch:"rule" json:"rule"`
	Reason      string    `ch:"reason" json:"reason"`
	Message     string    `ch:"message" json:"message"`
	Session     string    `ch:"session" json:"session"`
	Answered    LegState  `ch:"answered" json:"answered"`
	Finished    LegState  `ch:"finished" json:"finished"`
	HTTPStatus  *uint16   `ch:"http_status" json:"http_status"`
	RPCCode     *int64    `ch:"rpc_code" json:"rpc_code"`
	ToolError   *bool     `ch:"tool_error" json:"tool_error"`
	Withheld    string    `ch:"withheld" json:"withheld"`
	TotalMicros *uint64   `ch:"total_us" json:"total_us"`
}

// looksBack are how far back a listing looks first: the newest calls are all
// that most ask for, and days that need not be read are most of what there is.
var looksBack = []time.Duration{24 * time.Hour, 7 * 24 * time.Hour}

// Calls lists the newest calls that f wants, newest first.
func (d *DB) Calls(ctx context.Context, f Filter) ([]Summary, error) {
	if f.Limit <= 0 {
		f.Limit = defaultLimit
	}
	f.Limit = min(f.Limit, MaxCalls)
	// A session is too short to fill a listing, and is found by its index.
	if f.Since.IsZero() && f.Session == "" {
		until := f.Until
		if until.IsZero() {
			until = time.Now()
		}
		for _, back := range looksBack {
			recent := f
			recent.Since = until.Add(-back)
			list, err := d.list(ctx, recent)
			if err != nil || len(list) == f.Limit {
				return list, err
			}
		}
	}
	return d.list(ctx, f)
}

func (d *DB) list(ctx context.Context, f Filter) ([]Summary, error) {
	where, args := f.where()
	sql := "SELECT " + summaryColumns + " FROM calls WHERE " + where + fmt.Sprintf(" ORDER BY time DESC, call_id DESC LIMIT %d", f.Limit)
	var list []Summary
	if err := d.conn.Select(ctx, &list, sql, args...); err != nil {
		return nil, fmt.Errorf("list calls: %w", explain(err))
	}
	return list, nil
}

// where is the condition that f stands for, with its arguments.
func (f Filter) where() (string, []any) {
	where := []string{"1"}
	var args []any
	add := func(condition string, values ...any) {
		where = append(where, condition)
		args = append(args, values...)
	}
	if !f.Since.IsZero() {
		add("time >= " + instant(f.Since))
	}
	if !f.Until.IsZero() {
		add("time < " + instant(f.Until))
	}
	if f.Identity != "" {
		anyone := "subject = ? OR acting = ?"
		values := []any{f.Identity, f.Identity}
		// A subject may hold a bar of its own, an issuer, which is a URL, none.
		if issuer, subject, both := strings.Cut(f.Identity, "|"); both {
			// Who acts is also the first of actors; there is an index on the former.
			anyone += " OR issuer = ? AND subject = ? OR acting = ? AND actors.issuer[1] = ? AND actors.subject[1] = ?"
			values = append(values, issuer, subject, subject, issuer, subject)
		}
		add("("+anyone+")", values...)
	}
	for _, c := range []struct{ column, value string }{
		{"connection", f.Connection}, {"function", f.Function}, {"reason", f.Reason}, {"rule", f.Rule}, {"session", f.Session},
	} {
		if c.value != "" {
			add(c.column+" = ?", c.value)
		}
	}
	switch f.Decision {
	case "":
	case "allowed":
		add("allowed")
	case "denied":
		add("NOT allowed")
	default:
		add("decision = ?", f.Decision)
	}
	return strings.Join(where, " AND "), args
}

// Call is the row of one call, or [ErrNotFound].
func (d *DB) Call(ctx context.Context, id uuid.UUID) (Row, error) {
	// The id tells the day, which spares a look into all the others.
	if at, ok := made(id); ok {
		row, err := d.call(ctx, id, " AND time BETWEEN "+instant(at.Add(-time.Hour))+" AND "+instant(at.Add(time.Hour)))
		if !errors.Is(err, ErrNotFound) {
			return row, err
		}
	}
	return d.call(ctx, id, "")
}

func (d *DB) call(ctx context.Context, id uuid.UUID, more string) (Row, error) {
	var rows []Row
	if err := d.conn.Select(ctx, &rows, "SELECT "+columnsOf(Row{})+" FROM calls WHERE call_id = ?"+more+" LIMIT 1", id); err != nil {
		return Row{}, fmt.Errorf("look for call %s: %w", id, explain(err))
	}
	if len(rows) == 0 {
		return Row{}, fmt.Errorf("%w: %s; its row appears moments after it ended, or has it been deleted?", ErrNotFound, id)
	}
	return rows[0], nil
}

// Shipped tells how far a spool's events are in ClickHouse: none from the
// returned index on are.
func (d *DB) Shipped(ctx context.Context, spool string) (uint64, error) {
	var n, last uint64
	if err := d.conn.QueryRow(d.exact(ctx), "SELECT count(), max(spool_index) FROM events WHERE spool = ?", spool).Scan(&n, &last); err != nil {
		return 0, fmt.Errorf("look what events has: %w", explain(err))
	}
	if n == 0 {
		return 0, nil
	}
	return last + 1, nil
}

// Entry is one event of a call in the ledger.
type Entry struct {
	Time     time.Time `ch:"time" json:"time"`
	Kind     string    `ch:"kind" json:"kind"`
	Spool    string    `ch:"spool" json:"spool"`
	Index    uint64    `ch:"spool_index" json:"spool_index"`
	Inserted time.Time `ch:"inserted" json:"inserted"` // by the clock of ClickHouse
	Unjoined bool      `ch:"unjoined" json:"unjoined"` // came to another spool than its call, or after its row
}

// Entries lists the ledger's events of a call, in the order of their times.
func (d *DB) Entries(ctx context.Context, id uuid.UUID) ([]Entry, error) {
	sql := "SELECT time, kind, spool, spool_index, inserted, unjoined FROM events WHERE call_id = ?"
	if at, ok := made(id); ok {
		sql += " AND time >= " + instant(at.Add(-time.Hour)) // clocks of replicas differ, but not by an hour
	}
	var list []Entry
	if err := d.conn.Select(ctx, &list, sql+" ORDER BY time, spool, spool_index LIMIT 1000", id); err != nil {
		return nil, fmt.Errorf("look for events of call %s: %w", id, explain(err))
	}
	return list, nil
}

// Step is one step in the life of an approval.
type Step struct {
	Time       time.Time  `ch:"time" json:"time"`
	ApprovalID string     `ch:"approval_id" json:"approval_id"`
	CallID     uuid.UUID  `ch:"call_id" json:"call_id"` // the call that was held
	Number     uint32     `ch:"number" json:"number,omitempty"`
	Step       string     `ch:"step" json:"step"`
	By         string     `ch:"by" json:"by"` // "issuer|subject"
	InPlaceOf  string     `ch:"in_place_of" json:"in_place_of,omitempty"`
	Stage      uint32     `ch:"stage" json:"stage,omitempty"`
	Stages     uint32     `ch:"stages" json:"stages,omitempty"`
	State      string     `ch:"state" json:"state,omitempty"`
	Comment    string     `ch:"comment" json:"comment"`
	Rule       string     `ch:"rule" json:"rule"`
	Expires    *time.Time `ch:"expires" json:"expires"`
}

// Steps lists what happened to the approvals of a call: the one that it asked
// for, and the one, which may be of an earlier call, that it was let through by.
func (d *DB) Steps(ctx context.Context, id uuid.UUID, approval string) ([]Step, error) {
	sql := "SELECT time, approval_id, call_id, number, step, by, in_place_of, stage, stages, state, comment, rule, expires FROM approval_steps WHERE (call_id = ? OR approval_id = ? AND approval_id != '')"
	var list []Step
	if err := d.conn.Select(ctx, &list, sql+" ORDER BY time, spool, spool_index LIMIT 1000", id, approval); err != nil {
		return nil, fmt.Errorf("look for approvals of call %s: %w", id, explain(err))
	}
	return list, nil
}

// HasStep tells whether approvals has a step of an approval.
func (d *DB) HasStep(ctx context.Context, approval string, number int) (bool, error) {
	var n uint64
	if err := d.conn.QueryRow(d.exact(ctx), "SELECT count() FROM approvals WHERE approval_id = ? AND number = ?", approval, small(number)).Scan(&n); err != nil {
		return false, fmt.Errorf("look for step %d of approval %s: %w", number, approval, explain(err))
	}
	return n > 0, nil
}

// Member is a call of a batch, as the others of it are shown.
type Member struct {
	CallID   uuid.UUID `ch:"call_id" json:"call_id"`
	Index    uint32    `ch:"batch_index" json:"batch_index"`
	Function string    `ch:"function" json:"function"`
	Decision string    `ch:"decision" json:"decision"`
	Reason   string    `ch:"reason" json:"reason"`
	RPCID    string    `ch:"rpc_id" json:"rpc_id"`
}

// Batch lists the calls that came in one request, in its order. id is that of
// the first.
func (d *DB) Batch(ctx context.Context, id uuid.UUID) ([]Member, error) {
	sql := "SELECT " + columnsOf(Member{}) + " FROM calls WHERE batch_id = ?"
	if at, ok := made(id); ok {
		sql += " AND time BETWEEN " + instant(at.Add(-time.Hour)) + " AND " + instant(at.Add(time.Hour))
	}
	var list []Member
	if err := d.conn.Select(ctx, &list, sql+" ORDER BY batch_index LIMIT 1000", id); err != nil {
		return nil, fmt.Errorf("look for the calls of batch %s: %w", id, explain(err))
	}
	return list, nil
}
