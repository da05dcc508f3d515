package clickhouse

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/audit/engine"
)

// shared is the engine that tests share, each with a database of its own.
var shared struct {
	once sync.Once
	proc *engine.Process
	dir  string
	err  error
}

// TestMain lets the test binary be the engine's process and the shipper's that
// is killed, and one of those that migrate at once.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "clickhouse":
			runEngine(os.Args[2:])
		case "shipper":
			runChild(os.Args[2:])
		case "migrate":
			runMigrate(os.Args[2:])
		}
	}
	code := m.Run()
	if shared.proc != nil {
		shared.proc.Stop()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

func runEngine(args []string) {
	var cfg engine.Config
	flags := flag.NewFlagSet("clickhouse", flag.ExitOnError)
	flags.StringVar(&cfg.Path, "path", "", "")
	flags.StringVar(&cfg.Addr, "addr", "", "")
	flags.StringVar(&cfg.User, "user", "", "")
	flags.Int64Var(&cfg.MaxMemory, "max-memory", 0, "")
	flags.IntVar(&cfg.Connections, "connections", 0, "")
	flags.Parse(args)
	if err := engine.Main(context.Background(), cfg, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

const password = "test-only"

func startEngine(path, addr string) (*engine.Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // it may be fetched
	defer cancel()
	return engine.Start(ctx, engine.ProcessConfig{
		Config: engine.Config{Path: path, Addr: addr, Password: password, Log: slog.New(slog.DiscardHandler)},
	}, func(line string) { fmt.Fprintln(os.Stderr, line) })
}

// sharedEngine is the address of an engine that tests share. It believes to be
// the only server of a cluster called trail.
func sharedEngine(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "callgate-engine-"); shared.err != nil {
			return
		}
		path := filepath.Join(shared.dir, "data")
		for file, text := range clusterConfig {
			file = filepath.Join(path, "callgate-config", file)
			if shared.err = os.MkdirAll(filepath.Dir(file), 0o700); shared.err != nil {
				return
			}
			if shared.err = os.WriteFile(file, []byte(text), 0o600); shared.err != nil {
				return
			}
		}
		shared.proc, shared.err = startEngine(path, "127.0.0.1:0")
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.proc.Addr()
}

// A server that the user of 'make test-clickhouse' has. The tests that need one
// of their own, or its process, use the engine all the same.
var (
	serverAddr     = os.Getenv("CLICKHOUSE_ADDR")
	serverUser     = os.Getenv("CLICKHOUSE_USER")
	serverPassword = os.Getenv("CLICKHOUSE_PASSWORD")
	serverCA       = os.Getenv("CLICKHOUSE_CA")
	serverCluster  = os.Getenv("CLICKHOUSE_CLUSTER")
)

// on is the Config for a database of the user's server, at url; without one it
// is that of the shared engine or of what stands before it.
func on(url, database string) Config {
	cfg := Config{URL: url, Database: database, Password: func() (string, error) { return password, nil }}
	if serverAddr != "" {
		cfg.Username, cfg.CAFile = serverUser, serverCA
		cfg.Password = func() (string, error) { return serverPassword, nil }
		cfg.Cluster.Name = serverCluster
	}
	return cfg
}

// database is a fresh database, with the schema. In the shared engine it is a
// copy of one that was migrated, which takes a tenth of the time; TestCopy holds
// that they are the same.
func database(t testing.TB) (*DB, Config) {
	t.Helper()
	db, cfg := emptyDatabase(t)
	if serverAddr == "" {
		copySchema(t, cfg)
		return db, cfg
	}
	if err := db.Migrate(context.Background(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return db, cfg
}

// migrated are databases of the shared engine that migrations have made, of one
// server and of a cluster, as the statements that make their tables.
var migrated struct {
	sync.Mutex
	makes map[string][]string
}

// copySchema gives the database of cfg the schema.
func copySchema(t testing.TB, cfg Config) {
	t.Helper()
	ctx := context.Background()
	straight := openDB(t, Config{URL: "http://" + sharedEngine(t), Password: cfg.Password, Database: "default"}).conn
	exec := func(sql string) {
		t.Helper()
		if err := straight.Exec(ctx, sql); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
	source := "callgate_template" + cfg.Cluster.Name
	migrated.Lock()
	makes, ok := migrated.makes[source]
	if !ok {
		defer migrated.Unlock()
		of := cfg
		of.Database = source
		if err := openDB(t, of).Migrate(ctx, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		// Tables first, then what reads them.
		if err := straight.QueryRow(ctx, `SELECT groupArray(create_table_query) FROM (SELECT create_table_query FROM system.tables WHERE database = ?
			ORDER BY engine LIKE '%MergeTree' DESC, engine = 'Distributed' DESC, length(loading_dependencies_table), name)`, source).Scan(&makes); err != nil {
			t.Fatal(err)
		}
		if migrated.makes == nil {
			migrated.makes = map[string][]string{}
		}
		migrated.makes[source] = makes
	} else {
		migrated.Unlock()
	}
	exec("CREATE DATABASE " + cfg.Database)
	for _, sql := range makes {
		exec(strings.ReplaceAll(sql, source, cfg.Database))
	}
	exec("INSERT INTO " + cfg.Database + ".schema_migrations SELECT * FROM " + source + ".schema_migrations")
}

// emptyDatabase is a database that does not exist yet, and is dropped after the
// test. In tests below TestCluster it is to be on a cluster, and below
// TestNative it is reached over the native protocol.
func emptyDatabase(t testing.TB) (*DB, Config) {
	t.Helper()
	// Others may be testing on the same server.
	name := fmt.Sprintf("callgate_test_%x_", os.Getpid()) + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.TrimPrefix(t.Name(), "Test"))
	cfg := on(serverAddr, name[:min(len(name), 63)])
	if serverAddr == "" {
		cfg.URL = "http://" + sharedEngine(t)
		switch {
		case strings.HasPrefix(t.Name(), "TestCluster/"):
			cfg = oneServerCluster(t, cfg)
		case strings.HasPrefix(t.Name(), "TestNative/"):
			cfg = native(t, cfg)
		}
	}
	db := openDB(t, cfg)
	drop := func() {
		outside, err := db.connect("")
		if err != nil {
			t.Fatal(err)
		}
		defer outside.Close()
		if err := outside.Exec(context.Background(), "DROP DATABASE IF EXISTS "+cfg.Database+onServers(db)); err != nil {
			t.Fatal(err)
		}
	}
	drop()
	t.Cleanup(drop)
	return db, cfg
}

// onServers ends a DROP where a real cluster is to forget its replicas too.
func onServers(db *DB) string {
	if serverCluster == "" {
		return ""
	}
	return db.schema().onCluster() + " SYNC"
}

func openDB(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
