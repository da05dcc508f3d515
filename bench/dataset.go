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
	trailVersion = "1"
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

// openDataset returns the trail of CALLGATE_BENCH_CALLS calls, which is kept in
// a cache folder so that it is made once for each schema.
//
// Making it through the spool alone would take most of an hour, so one day of it
// is shipped from a spool as the product does it, and the other days are copies
// of that one inside ClickHouse, with other times, ids and sessions: blocks are
// compressed by themselves, so a copy of a day is as large as another day.
func openDataset(ctx context.Context) (_ *dataset, err error) {
	calls := trailCalls
	if text := os.Getenv("CALLGATE_BENCH_CALLS"); text != "" {
		if calls, err = strconv.Atoi(text); err != nil || calls < 1000*trailDays {
			return nil, fmt.Errorf("CALLGATE_BENCH_CALLS=%s: a number from %d on", text, 1000*trailDays)
		}
	}
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

// shares are how the rows of a day lie in parts that have been merged by and
// by: one large, and ever smaller ones. Merges are stopped, so that it stays so.
var shares = []float64{0, 0.55, 0.8, 0.9, 0.96, 0.99, 1}

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
	for _, table := range []string{"calls", "events"} {
		if err := d.exec(ctx, "ALTER TABLE trail."+table+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"); err != nil {
			return err
		}
	}
	for day := 1; day < trailDays; day++ {
		for i := 1; i < len(shares); i++ {
			low, high := lastDay.Add(time.Duration(shares[i-1]*86400)*time.Second), lastDay.Add(time.Duration(shares[i]*86400)*time.Second)
			for _, table := range []string{"events", "calls"} {
				if err := d.copyDay(ctx, table, table, day, low, high); err != nil {
					return err
				}
			}
		}
		fmt.Printf("dataset: day %d of %d after %s\n", day+1, trailDays, time.Since(began).Round(time.Second))
	}
	return nil
}

// copyDay copies the last day's rows of a table that came from low to before
// high, to so many days before.
func (d *dataset) copyDay(ctx context.Context, from, to string, day int, low, high time.Time) error {
	ms := int64(day) * 86_400_000
	// The first 48 bits of the id are its time in milliseconds.
	id := fmt.Sprintf(`toUUID(concat(substring(lower(hex(reinterpretAsUInt64(reverse(unhex(concat('0000', substring(toString(call_id), 1, 8), substring(toString(call_id), 10, 4))))) - %d)) AS h, 1, 8),
		'-', substring(h, 9, 4), substring(toString(call_id), 14)))`, ms)
	replace := fmt.Sprintf("time - toIntervalDay(%d) AS time, %s AS call_id, spool_index + %d AS spool_index, inserted - toIntervalDay(%d) AS inserted", day, id, day*4*d.perDay, day)
	if from == "calls" {
		replace += fmt.Sprintf(", decided_at - toIntervalDay(%d) AS decided_at, token_expires - toIntervalDay(%d) AS token_expires, concat(lower(hex(toUInt8(%d))), substring(session, 3)) AS session", day, day, day)
	}
	columns, err := d.columns(ctx, from)
	if err != nil {
		return err
	}
	return d.exec(ctx, fmt.Sprintf(`INSERT INTO trail.%s (%s) SELECT %s FROM (SELECT * REPLACE (%s) FROM (SELECT * FROM trail.%s WHERE time >= toDateTime64('%s', 6, 'UTC') AND time < toDateTime64('%s', 6, 'UTC')))
		SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0, max_block_size = 65536, use_query_condition_cache = 0`,
		to, columns, columns, replace, from, low.Format("2006-01-02 15:04:05"), high.Format("2006-01-02 15:04:05")))
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
