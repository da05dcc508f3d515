package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/callgate/callgate/audit/clickhouse"
)

// benchTrail measures shipping, and then what the trail of many calls takes on
// disk and how fast it answers.
func benchTrail(ctx context.Context) (_ []row, err error) {
	var rows []row
	if os.Getenv("CALLGATE_BENCH_SHIP") != "0" {
		if rows, err = benchShip(ctx); err != nil {
			return nil, err
		}
	}
	calls, err := datasetCalls(trailCalls)
	if err != nil {
		return nil, err
	}
	d, err := openDataset(ctx, calls)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	sizes, err := d.sizes(ctx)
	if err != nil {
		return nil, err
	}
	times, err := d.times(ctx)
	if err != nil {
		return nil, err
	}
	return append(append(rows, sizes...), times...), nil
}

// sizes are bytes on disk for each call.
func (d *dataset) sizes(ctx context.Context) ([]row, error) {
	var calls, events, callBytes, eventBytes, bodies, indexes, marks, parts uint64
	err := d.conn.QueryRow(ctx, `SELECT sumIf(rows, table = 'calls'), sumIf(rows, table = 'events'), sumIf(bytes_on_disk, table = 'calls'), sumIf(bytes_on_disk, table = 'events'),
		sum(secondary_indices_compressed_bytes), sum(marks_bytes), countIf(table = 'calls') FROM system.parts WHERE active AND database = 'trail'`).
		Scan(&calls, &events, &callBytes, &eventBytes, &indexes, &marks, &parts)
	if err != nil {
		return nil, err
	}
	err = d.conn.QueryRow(ctx, `SELECT sum(column_data_compressed_bytes) FROM system.parts_columns WHERE active AND database = 'trail' AND table = 'calls'
		AND column IN ('request_body', 'request_body_tail', 'response_body', 'response_body_tail')`).Scan(&bodies)
	if err != nil {
		return nil, err
	}
	var list []struct {
		Table  string  `ch:"table"`
		Column string  `ch:"column"`
		Bytes  float64 `ch:"bytes"`
	}
	err = d.conn.Select(ctx, &list, fmt.Sprintf(`SELECT table, column, sum(column_data_compressed_bytes) / %d AS bytes FROM system.parts_columns WHERE active AND database = 'trail'
		GROUP BY table, column HAVING bytes > 0.5 ORDER BY bytes DESC`, calls))
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		fmt.Printf("%-8s %-24s %7.2f bytes/call\n", c.Table, c.Column, c.Bytes)
	}
	n := float64(calls)
	figure := func(name, unit string, v float64) row { return newRow(name, unit, "", []float64{v}) }
	return []row{
		figure("trail_calls", "calls", n),
		figure("trail_parts", "parts of calls", float64(parts)),
		figure("bytes_per_call", "bytes on disk, calls and events, without bodies", float64(callBytes+eventBytes-bodies)/n),
		figure("bytes_calls", "bytes/call, without bodies", float64(callBytes-bodies)/n),
		figure("bytes_events", "bytes/call", float64(eventBytes)/n),
		figure("bytes_bodies", "bytes/call", float64(bodies)/n),
		figure("bytes_indexes", "bytes/call, of these", float64(indexes)/n),
		figure("bytes_marks", "bytes/call, of these", float64(marks)/n),
	}, nil
}

// queryRuns is how often each question is asked, each time of something else.
const queryRuns = 41

// known are some calls to ask for.
type known struct {
	ID      uuid.UUID `ch:"call_id"`
	Session string    `ch:"session"`
	Subject string    `ch:"subject"`
	Time    time.Time `ch:"time"`
	Body    string    `ch:"request_body"`
	Thing   string    `ch:"thing"`
	Noun    string    `ch:"noun"`
}

// times are the medians of what the trail is asked.
func (d *dataset) times(ctx context.Context) ([]row, error) {
	var sample []known
	err := d.conn.Select(ctx, &sample, fmt.Sprintf(`SELECT call_id, session, subject, time, request_body, extract(args, '"([a-z]+)":\\{"id"') AS noun, JSONExtractString(args, noun, 'id') AS thing
		FROM trail.calls WHERE cityHash64(call_id) %% %d = 0 ORDER BY cityHash64(call_id, 1) LIMIT %d`, max(1, d.perDay*trailDays/1000), 4*queryRuns))
	if err != nil {
		return nil, err
	}
	if len(sample) < queryRuns {
		return nil, fmt.Errorf("only %d calls to ask for", len(sample))
	}
	first := lastDay.AddDate(0, 0, 1-trailDays)
	day := func(t time.Time) string {
		t = t.UTC().Truncate(24 * time.Hour)
		return fmt.Sprintf("time >= toDateTime64('%s', 6, 'UTC') AND time < toDateTime64('%s', 6, 'UTC')", t.Format(time.DateOnly), t.AddDate(0, 0, 1).Format(time.DateOnly))
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	var rows []row
	for _, q := range []struct {
		name string
		ask  func(ctx context.Context, k known) (int, error)
	}{
		{"q_call_ms", func(ctx context.Context, k known) (int, error) {
			r, err := d.db.Call(ctx, k.ID)
			if err == nil && r.CallID != k.ID {
				err = errors.New("another call came")
			}
			return 1, err
		}},
		{"q_session_ms", func(ctx context.Context, k known) (int, error) {
			list, err := d.db.Calls(ctx, clickhouse.Filter{Session: k.Session, Limit: 1000})
			return len(list), err
		}},
		{"q_identity_ms", func(ctx context.Context, k known) (int, error) {
			list, err := d.db.Calls(ctx, clickhouse.Filter{Identity: k.Subject, Limit: 100})
			return len(list), err
		}},
		{"q_denials_ms", func(ctx context.Context, _ known) (int, error) {
			return d.count(ctx, fmt.Sprintf("SELECT toDate(time) AS day, rule, count() FROM calls WHERE NOT allowed AND time >= toDateTime64('%s', 6, 'UTC') GROUP BY day, rule", first.Format(time.DateOnly)))
		}},
		{"q_denials_view_ms", func(ctx context.Context, _ known) (int, error) {
			return d.count(ctx, fmt.Sprintf("SELECT * FROM denials_by_rule(days = %d)", int(time.Since(first).Hours()/24)+1))
		}},
		{"q_text_ms", func(ctx context.Context, k known) (int, error) {
			return d.count(ctx, fmt.Sprintf("SELECT call_id, time, subject, function FROM calls WHERE %s AND request_body LIKE '%%ref%05d%%' ORDER BY time DESC LIMIT 100", day(k.Time), rnd.IntN(100_000)))
		}},
		{"q_text_common_ms", func(ctx context.Context, k known) (int, error) {
			return d.count(ctx, fmt.Sprintf("SELECT call_id, time, subject, function FROM calls WHERE %s AND request_body LIKE '%%%s%%' ORDER BY time DESC LIMIT 100", day(k.Time), words[len(words)-1-rnd.IntN(20)]))
		}},
		{"q_args_ms", func(ctx context.Context, k known) (int, error) {
			return d.count(ctx, fmt.Sprintf("SELECT call_id, time, subject, function FROM calls WHERE %s AND JSONExtractString(args, '%s', 'id') = '%s' ORDER BY time DESC LIMIT 100", day(k.Time), k.Noun, k.Thing))
		}},
	} {
		var ms []float64
		found := 0
		for i := range queryRuns + 3 {
			began := time.Now()
			n, err := q.ask(ch.Context(ctx, ch.WithSettings(ch.Settings{"use_query_condition_cache": 0})), sample[(i*7)%len(sample)])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
			if i >= 3 { // the first ones load marks and indexes
				ms = append(ms, time.Since(began).Seconds()*1e3)
				found += n
			}
		}
		r := newRow(q.name, "ms", "", ms)
		sort.Float64s(ms)
		fmt.Printf("%-20s p50 %7.1f ms  p90 %7.1f ms  %8.1f rows\n", q.name, r.Value, ms[len(ms)*9/10], float64(found)/queryRuns)
		rows = append(rows, r)
	}
	return rows, nil
}

// count asks as the command line does, and reads all rows.
func (d *dataset) count(ctx context.Context, sql string) (n int, err error) {
	rows, err := d.db.Query(ctx, sql+" SETTINGS use_query_condition_cache = 0")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if _, err := rows.Values(); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}
