package clickhouse

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	ctx := context.Background()
	// Each statement may be run again, whatever schema_migrations says.
	if err := db.conn.Exec(ctx, "TRUNCATE TABLE schema_migrations"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := openDB(t, cfg).Migrate(ctx, slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := Migrations(cfg)
	if err != nil {
		t.Fatal(err)
	}
	have, err := db.applied(ctx, db.conn)
	if err != nil || len(have) != len(list)-1 {
		t.Errorf("%d of %d migrations applied: %v", len(have), len(list)-1, err)
	}
}

// Every column has a comment, and Row has every column of calls.
func TestColumns(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	rows, err := db.conn.Query(context.Background(),
		"SELECT table, name, comment FROM system.columns WHERE database = ? ORDER BY table, position", cfg.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	known := map[string]bool{}
	for i := range reflect.TypeFor[Row]().NumField() {
		known[reflect.TypeFor[Row]().Field(i).Tag.Get("ch")] = true
	}
	n := 0
	for rows.Next() {
		var table, name, comment string
		if err := rows.Scan(&table, &name, &comment); err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(comment) == "" {
			t.Errorf("%s.%s has no comment", table, name)
		}
		if table == "calls" {
			n++
			if !known[name] {
				t.Errorf("Row lacks %s", name)
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if n != len(known) {
		t.Errorf("calls has %d columns, Row %d", n, len(known))
	}
}
