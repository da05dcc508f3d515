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
	Subject      string    // the subject, or who was at work for it
	Connection   string
	Function     string
	Decision     string // an outcome, or "allowed" or "denied" for any that was
	Reason       string
	Rule         string
	Session      string
	Limit        int // 0 means 100
}

const (
	defaultLimit = 100
	maxLimit     = 10_000
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

// Calls lists the newest calls that f wants, newest first.
func (d *DB) Calls(ctx context.Context, f Filter) ([]Summary, error) {
	var where []string
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
	if f.Subject != "" {
		add("(subject = ? OR acting = ?)", f.Subject, f.Subject)
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
	sql := "SELECT " + summaryColumns + " FROM calls"
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	sql += fmt.Sprintf(" ORDER BY time DESC LIMIT %d", min(limit, maxLimit))
	var list []Summary
	if err := d.conn.Select(ctx, &list, sql, args...); err != nil {
		return nil, fmt.Errorf("list calls: %w", explain(err))
	}
	return list, nil
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
