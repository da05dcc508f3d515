package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"
)

// Replicas start together, in processes of their own, on a ClickHouse that has
// nothing yet, and some run what was done already.
func TestMigrate(t *testing.T) {
	t.Parallel()
	db, cfg := emptyDatabase(t)
	ctx := context.Background()
	list, err := Migrations(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for range 2 {
		group.Go(func() error {
			child := exec.Command(os.Args[0], "migrate", cfg.URL, cfg.Database, cfg.Cluster.Name)
			if out, err := child.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		group.Go(func() error {
			_, err := openDB(t, cfg).MigrateSchema(ctx, slog.New(slog.DiscardHandler), true)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	did, err := db.MigrateSchema(ctx, slog.New(slog.DiscardHandler), false)
	if err != nil || len(did.Applied) != 0 || did.Before != len(list)-1 || did.Ahead != 0 {
		t.Errorf("afterwards it did %+v, %v", did, err)
	}
	did, err = db.MigrateSchema(ctx, slog.New(slog.DiscardHandler), true)
	if err != nil || len(did.Applied) != len(list)-1 {
		t.Errorf("again it did %+v, %v", did, err)
	}
	if err := db.conn.Exec(ctx, Migration{Version: 900, Name: "future"}.done(cfg.Database)); err != nil {
		t.Fatal(err)
	}
	if did, err = db.MigrateSchema(ctx, slog.New(slog.DiscardHandler), false); err != nil || did.Ahead != 900 || len(did.Applied) != 0 {
		t.Errorf("with a newer schema it did %+v, %v", did, err)
	}
}

// The database that other tests get is as migrations make it.
func TestCopy(t *testing.T) {
	t.Parallel()
	_, cfg := database(t)
	if serverAddr != "" {
		t.Skip("it is made by migrations there")
	}
	source := openDB(t, Config{URL: "http://" + sharedEngine(t), Password: cfg.Password, Database: "callgate_template" + cfg.Cluster.Name})
	copied := openDB(t, Config{URL: "http://" + sharedEngine(t), Password: cfg.Password, Database: cfg.Database})
	for what, sql := range map[string]string{
		"tables":     `SELECT arrayStringConcat(groupArray(q), '\n') FROM (SELECT replaceAll(create_table_query, currentDatabase(), 'x') AS q FROM system.tables WHERE database = currentDatabase() ORDER BY name)`,
		"migrations": "SELECT toString(groupArray((version, name))) FROM (SELECT DISTINCT version, name FROM schema_migrations ORDER BY version)",
	} {
		var want string
		if err := source.conn.QueryRow(t.Context(), sql).Scan(&want); err != nil || len(want) < 100 {
			t.Fatalf("%s: %q, %v", what, want, err)
		}
		eventually(t, copied, want, sql)
	}
}

// A server that would fail at the first late leg is refused at once.
func TestOldServer(t *testing.T) {
	t.Parallel()
	for version, old := range map[string]bool{"18.16.1": true, "25.7.9.1": true, "25.8.1.1": false, "26.1.2.3": false, "": true, "x": true} {
		err := supported(context.Background(), versionConn{version: version})
		if (err != nil) != old {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// versionConn is a server of some version.
type versionConn struct {
	driver.Conn
	driver.Row
	version string
}

func (c versionConn) QueryRow(context.Context, string, ...any) driver.Row { return c }
func (c versionConn) Err() error                                          { return nil }
func (c versionConn) Scan(dest ...any) error {
	*dest[0].(*string) = c.version
	return nil
}

// runMigrate is one of the processes that race.
func runMigrate(args []string) {
	cfg := on(args[0], args[1])
	cfg.Cluster.Name = args[2]
	db, err := Open(cfg)
	if err == nil {
		err = db.Migrate(context.Background(), slog.New(slog.DiscardHandler))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Every column has a comment, and Row has every column of calls.
func TestColumns(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	rows, err := db.conn.Query(context.Background(),
		"SELECT table, name, comment, default_kind FROM system.columns WHERE database = ? AND table NOT IN (SELECT name FROM system.tables WHERE database = ? AND engine = 'View') ORDER BY table, position", cfg.Database, cfg.Database)
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
		var table, name, comment, kind string
		if err := rows.Scan(&table, &name, &comment, &kind); err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(comment) == "" {
			t.Errorf("%s.%s has no comment", table, name)
		}
		if table == "calls" && kind != "ALIAS" {
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
