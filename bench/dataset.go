package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/engine"
)

const (
	trailDays  = 30
	trailCalls = 10_000_000
	// trailVersion changes with what the dataset holds, beside its schema.
	trailVersion = "2"
	trailName    = "trail"
)

// lastDay is the day that is shipped, and the last of the dataset.
var lastDay = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// dataset is a trail of many calls in an engine of its own.
type dataset struct {
	engine *engine.Process
	db     *clickhouse.DB // as the product asks
	conn   driver.Conn    // for all else
	perDay int
}

// openDataset returns a trail of so many calls, which is kept in a cache folder so that it is made once for each schema.
//
// Making it through the spool alone would take most of an hour, so one day of it
// is shipped from a spool as the product does it, and the other days are copies
// of that one inside ClickHouse, with other times, ids and sessions: blocks are
// compressed by themselves, so a copy of a day is as large as another day.
func openDataset(ctx context.Context, calls int) (_ *dataset, err error) {
	perDay := calls / trailDays
	var ddl strings.Builder
	if err := clickhouse.DDL(&ddl, clickhouse.Config{Database: trailName}); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(trailVersion + ddl.String()))
	base := os.Getenv("CALLGATE_BENCH_DIR")
	if base == "" {
		if base, err = os.UserCacheDir(); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(base, "callgate-bench", fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:6]), perDay*trailDays))
	ready := filepath.Join(dir, "ready")
	if _, err := os.Stat(ready); err != nil {
		if err := os.RemoveAll(dir); err != nil { // half of one
			return nil, err
		}
		if err := makeDataset(ctx, dir, perDay); err != nil {
			return nil, fmt.Errorf("make the dataset: %w", err)
		}
		if err := os.WriteFile(ready, nil, 0o600); err != nil {
			return nil, err
		}
	}
	return attach(ctx, dir, perDay, 0)
}

// datasetCalls is how many calls the environment wants, or usual.
func datasetCalls(usual int) (int, error) {
	text := os.Getenv("CALLGATE_BENCH_CALLS")
	if text == "" {
		return usual, nil
	}
	calls, err := strconv.Atoi(text)
	if err != nil || calls < 1000*trailDays {
		return 0, fmt.Errorf("CALLGATE_BENCH_CALLS=%s: a number from %d on", text, 1000*trailDays)
	}
	return calls, nil
}

func attach(ctx context.Context, dir string, perDay int, memory int64) (_ *dataset, err error) {
	d := &dataset{perDay: perDay}
	if d.engine, err = startEngine(ctx, filepath.Join(dir, "data"), memory); err != nil {
		return nil, err
	}
	if d.db, err = openTrail(d.engine.Addr(), trailName); err != nil {
		return nil, errors.Join(err, d.engine.Stop())
	}
	d.conn, err = ch.Open(&ch.Options{Addr: []string{d.engine.Addr()}, Protocol: ch.HTTP, Auth: ch.Auth{Username: "default", Password: benchPass},
		ReadTimeout: time.Hour, Settings: ch.Settings{"use_query_condition_cache": 0}})
	if err != nil {
		return nil, errors.Join(err, d.db.Close(), d.engine.Stop())
	}
	return d, nil
}

func (d *dataset) close() error { return errors.Join(d.conn.Close(), d.db.Close(), d.engine.Stop()) }

func makeDataset(ctx context.Context, dir string, perDay int) (err error) {
	d, err := attach(ctx, dir, perDay, 4<<30)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	began := time.Now()
	spool := filepath.Join(dir, "spool")
	events, err := fill(ctx, spool, newTraffic(1), perDay, lastDay.Add(time.Minute), 86000*time.Second/time.Duration(perDay))
	if err != nil {
		return err
	}
	fmt.Printf("dataset: %d calls of a day in the spool after %s\n", perDay, time.Since(began).Round(time.Second))
	if _, err := ship(ctx, spool, d.engine.Addr(), trailName, events); err != nil {
		return err
	}
	if err := os.RemoveAll(spool); err != nil {
		return err
	}
	fmt.Printf("dataset: shipped after %s\n", time.Since(began).Round(time.Second))
	// The last day stays in the parts that it is in while it is written to.
	for _, table := range []string{"calls", "events"} {
		if err := d.exec(ctx, "ALTER TABLE trail."+table+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"); err != nil {
			return err
		}
	}
	for day := 1; day < trailDays; day++ {
		for _, table := range []string{"events", "calls"} {
			if err := d.copyDay(ctx, table, day); err != nil {
				return err
			}
		}
		fmt.Printf("dataset: day %d of %d after %s\n", day+1, trailDays, time.Since(began).Round(time.Second))
	}
	return nil
}

// copyDay copies the last day's rows of a table to so many days before, in one
// part, as ClickHouse merges a day an hour after its end.
func (d *dataset) copyDay(ctx context.Context, table string, day int) error {
	ms := int64(day) * 86_400_000
	// The first 48 bits of the id are its time in milliseconds.
	id := fmt.Sprintf(`toUUID(concat(substring(lower(hex(reinterpretAsUInt64(reverse(unhex(concat('0000', substring(toString(call_id), 1, 8), substring(toString(call_id), 10, 4))))) - %d)) AS h, 1, 8),
		'-', substring(h, 9, 4), substring(toString(call_id), 14)))`, ms)
	replace := fmt.Sprintf("time - toIntervalDay(%d) AS time, %s AS call_id, spool_index + %d AS spool_index, inserted - toIntervalDay(%d) AS inserted", day, id, day*4*d.perDay, day)
	if table == "calls" {
		replace += fmt.Sprintf(", decided_at - toIntervalDay(%d) AS decided_at, token_expires - toIntervalDay(%d) AS token_expires, concat(lower(hex(toUInt8(%d))), substring(session, 3)) AS session", day, day, day)
	}
	columns, err := d.columns(ctx, table)
	if err != nil {
		return err
	}
	return d.exec(ctx, fmt.Sprintf(`INSERT INTO trail.%s (%s) SELECT %s FROM (SELECT * REPLACE (%s) FROM (SELECT * FROM trail.%s WHERE toDate(time) = '%s'))
		SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0, max_threads = 2, max_block_size = 65536, use_query_condition_cache = 0`,
		table, columns, columns, replace, table, lastDay.Format(time.DateOnly)))
}

// columns are those of a table that are stored.
func (d *dataset) columns(ctx context.Context, table string) (string, error) {
	var list string
	err := d.conn.QueryRow(ctx, "SELECT arrayStringConcat(groupArray(concat('`', name, '`')), ', ') FROM (SELECT name FROM system.columns WHERE database = 'trail' AND table = ? AND default_kind != 'ALIAS' ORDER BY position)", table).Scan(&list)
	return list, err
}

func (d *dataset) exec(ctx context.Context, sql string) error {
	if err := d.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql[:min(len(sql), 200)], err)
	}
	return nil
}
