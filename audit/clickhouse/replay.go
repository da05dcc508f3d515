package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
)

// Tally is how many calls of a kind there are.
type Tally struct {
	Connection string `ch:"connection"`
	Protocol   string `ch:"protocol"`
	Function   string `ch:"function"`
	Reason     string `ch:"reason"`
	Calls      uint64 `ch:"calls"`
}

// maxTallies bounds a census; connections that take any function's name could
// have any number.
const maxTallies = 200_000

// Census counts the calls that f wants by function and reason.
func (d *DB) Census(ctx context.Context, f Filter) ([]Tally, error) {
	where, args := f.where()
	var list []Tally
	err := d.conn.Select(ctx, &list, fmt.Sprintf(`SELECT connection, protocol, function, reason, count() AS calls FROM calls WHERE %s
		GROUP BY connection, protocol, function, reason ORDER BY connection, protocol, function, reason LIMIT %d`, where, maxTallies+1), args...)
	if err != nil {
		return nil, fmt.Errorf("count calls: %w", explain(err))
	}
	if len(list) > maxTallies {
		return nil, fmt.Errorf("count calls: there are more than %d different functions; name a connection or a shorter time", maxTallies)
	}
	return list, nil
}

// Span is a time, its end not included, and how many calls came in it.
type Span struct {
	Since, Until time.Time
	Calls        uint64
}

// Spans divides the calls that f wants by time into pieces of about so many. An
// hour is the least.
func (d *DB) Spans(ctx context.Context, f Filter, about uint64) ([]Span, error) {
	where, args := f.where()
	var hours []struct {
		Hour  time.Time `ch:"hour"`
		Calls uint64    `ch:"calls"`
	}
	err := d.conn.Select(ctx, &hours, "SELECT toStartOfHour(time) AS hour, count() AS calls FROM calls WHERE "+where+" GROUP BY hour ORDER BY hour", args...)
	if err != nil {
		return nil, fmt.Errorf("count calls by hour: %w", explain(err))
	}
	var list []Span
	for _, h := range hours {
		since, until := h.Hour.UTC(), h.Hour.UTC().Add(time.Hour)
		if !f.Since.IsZero() && since.Before(f.Since) {
			since = f.Since
		}
		if !f.Until.IsZero() && until.After(f.Until) {
			until = f.Until
		}
		if n := len(list); n > 0 && list[n-1].Calls+h.Calls <= about {
			list[n-1].Until, list[n-1].Calls = until, list[n-1].Calls+h.Calls
			continue
		}
		list = append(list, Span{since, until, h.Calls})
	}
	return list, nil
}

// FunctionName is a function of a connection.
type FunctionName struct{ Connection, Function string }

// Replay says which recorded calls to read again, and what of them.
type Replay struct {
	Filter
	Reasons []string // only calls that were decided for one of these
	// Only are the functions whose calls are read; Except are those whose are
	// not. At most one of them may be set.
	Only, Except []FunctionName
	// Columns are the columns of [Row] that are filled; approval_id tells only
	// whether there is one.
	Columns []string
	// Grouped reads calls that are the same in all Columns as one; then these
	// can't be call_id and time.
	Grouped bool
	// Examples is how many calls of a group are named, the newest ones.
	Examples int
}

// Example is one of the calls of a group.
type Example struct {
	ID   uuid.UUID
	Time time.Time
}

// Group is one call, or several that are the same as far as they are read.
type Group struct {
	Row      Row // of which Replay.Columns are filled
	Calls    uint64
	Examples []Example // the newest first
}

// groupable are the columns whose values many calls share. The others would
// make of each call a group of its own.
var groupable = []string{"issuer", "subject", "kind", "groups", "acting", "actors.issuer", "actors.subject", "auth_method", "connection", "protocol",
	"function", "decision", "rule", "reason", "approval_id", "method", "authority"}

// Groupable reports whether calls can be grouped by a column and be fewer for it.
func Groupable(column string) bool { return slices.Contains(groupable, column) }

// Replay reads calls in no particular order and hands them to each, which must
// not keep the group: it is used again for the next.
func (d *DB) Replay(ctx context.Context, what Replay, each func(*Group) error) (err error) {
	where, args := what.where()
	if len(what.Reasons) > 0 {
		where += " AND reason IN (?)"
		args = append(args, what.Reasons)
	}
	for _, list := range []struct {
		not   string
		names []FunctionName
	}{{"", what.Only}, {"NOT ", what.Except}} {
		if len(list.names) > 0 {
			for _, n := range list.names {
				args = append(args, n.Connection, n.Function)
			}
			where += fmt.Sprintf(" AND %s(connection, function) IN (%s)", list.not, strings.TrimSuffix(strings.Repeat("(?, ?), ", len(list.names)), ", "))
		}
	}
	var group Group
	var keys [][]any // the newest calls of a group: their time in microseconds, negative, and id
	names := make([]string, len(what.Columns))
	into := make([]any, 0, len(what.Columns)+2)
	row := reflect.ValueOf(&group.Row).Elem()
	for i, c := range what.Columns {
		at := fieldsOf(row.Type(), []string{c})
		if len(at) != 1 {
			return fmt.Errorf("replay calls: there is no column %q", c)
		}
		if names[i] = "`" + c + "`"; c == "approval_id" {
			names[i] = "if(approval_id = '', '', '-') AS approval_id" // that there was one is all that counts
		}
		into = append(into, row.Field(at[0]).Addr().Interface())
	}
	columns, keyed := strings.Join(names, ", "), "`"+strings.Join(what.Columns, "`, `")+"`"
	sql := "SELECT " + columns + " FROM calls WHERE " + where
	if what.Grouped {
		into = append(into, &group.Calls, &keys)
		sql = fmt.Sprintf("SELECT %s, count() AS n, groupArraySorted(%d)(tuple(-toUnixTimestamp64Micro(time), call_id)) AS newest FROM calls WHERE %s GROUP BY %s",
			columns, max(what.Examples, 1), where, keyed)
	}
	// Several of these run at a time; each is to keep to one thread.
	rows, err := d.conn.Query(ch.Context(ctx, ch.WithSettings(ch.Settings{"readonly": 2, "max_threads": 1})), sql, args...)
	if err != nil {
		return fmt.Errorf("replay calls: %w", explain(err))
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("replay calls: %w", err)
		}
		group.Examples = group.Examples[:0]
		if what.Grouped {
			for _, k := range keys {
				e, err := example(k)
				if err != nil {
					return fmt.Errorf("replay calls: %w", err)
				}
				group.Examples = append(group.Examples, e)
			}
		} else {
			group.Calls = 1
			group.Examples = append(group.Examples, Example{group.Row.CallID, group.Row.Time})
		}
		if err := each(&group); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("replay calls: %w", explain(err))
	}
	return nil
}

func example(key []any) (Example, error) {
	if len(key) == 2 {
		at, ok := key[0].(int64)
		if id, is := key[1].(uuid.UUID); ok && is {
			return Example{id, time.UnixMicro(-at).UTC()}, nil
		}
	}
	return Example{}, errors.New("an example is no time and id")
}
