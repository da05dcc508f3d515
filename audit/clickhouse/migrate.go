package clickhouse

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migration is one numbered step of the schema, forward only. Every statement
// may be run again, also by several replicas at once: ClickHouse has no
// transaction around DDL and no lock to take.
type Migration struct {
	Version    uint32
	Name       string
	Statements []string
}

// migrationTable is kept apart from the files, since they are counted in it.
const migrationTable = `CREATE TABLE IF NOT EXISTS {{table "schema_migrations"}} (
    version UInt32 COMMENT 'Number of the migration.',
    name String COMMENT 'Its name.',
    applied DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When a replica first finished it.'
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY version
COMMENT 'Migrations that this database has.'`

// Migrations returns the steps for the database of cfg, in order. Step 0 makes
// the database and the table of steps.
func Migrations(cfg Config) ([]Migration, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := schema{cfg.Database, cfg.Cluster}
	book, err := s.render(migrationTable)
	if err != nil {
		return nil, err
	}
	list := []Migration{{Name: "database", Statements: append([]string{"CREATE DATABASE IF NOT EXISTS " + cfg.Database + s.onCluster()}, book...)}}
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	for i, file := range names {
		number, name, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(file, "migrations/"), ".sql"), "_")
		version, err := strconv.ParseUint(number, 10, 32)
		if err != nil || version != uint64(i)+1 {
			return nil, fmt.Errorf("migration %s is not number %d", file, i+1)
		}
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		m := Migration{Version: uint32(version), Name: name}
		for _, statement := range strings.Split(string(text), "\n;;\n") {
			sql, err := s.render(statement)
			if err != nil {
				return nil, fmt.Errorf("migration %s: %w", file, err)
			}
			m.Statements = append(m.Statements, sql...)
		}
		list = append(list, m)
	}
	return list, nil
}

// done is the statement that books m.
func (m Migration) done(database string) string {
	return fmt.Sprintf("INSERT INTO %s.schema_migrations (version, name) VALUES (%d, '%s')", database, m.Version, m.Name)
}

// DDL writes the whole schema, ready to be pasted into a ClickHouse client.
// Afterwards Migrate finds nothing to do.
func DDL(w io.Writer, cfg Config) error {
	list, err := Migrations(cfg)
	if err != nil {
		return err
	}
	if err := cfg.complete(); err != nil {
		return err
	}
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "-- %04d %s\n\n", m.Version, m.Name)
		statements := m.Statements
		if m.Version > 0 {
			statements = append(slices.Clip(statements), m.done(cfg.Database))
		}
		for _, sql := range statements {
			b.WriteString(sql + ";\n\n")
		}
	}
	_, err = io.WriteString(w, strings.TrimSuffix(b.String(), "\n"))
	return err
}

// Migrated says what Migrate did.
type Migrated struct {
	Applied []Migration // now, by this call
	Before  int         // how many steps were there
	Ahead   uint32      // the newest step that this build does not know; 0 where there is none
}

// Migrate brings the schema up to this build's. It may run in several replicas
// at once. A schema that is ahead of this build is left alone: migrations only
// add, so an older replica goes on beside newer ones.
func (d *DB) Migrate(ctx context.Context, log *slog.Logger) error {
	_, err := d.MigrateSchema(ctx, log, false)
	return err
}

// MigrateSchema is Migrate that tells what it did. If again is set it runs
// every step, also those that were done: what a shard or replica needs that
// was added to a cluster.
func (d *DB) MigrateSchema(ctx context.Context, log *slog.Logger, again bool) (Migrated, error) {
	var did Migrated
	list, err := Migrations(d.cfg)
	if err != nil {
		return did, err
	}
	// The database may not exist yet, so it can't be the connection's.
	conn, err := d.connect("")
	if err != nil {
		return did, err
	}
	defer conn.Close()
	if err := supported(ctx, conn); err != nil {
		return did, err
	}
	// Where all is there, a user who may not make anything is enough.
	have, err := d.applied(ctx, conn)
	if missing := (*ch.Exception)(nil); errors.As(err, &missing) && (missing.Code == codeUnknownDatabase || missing.Code == codeUnknownTable) {
		have, err = map[uint32]bool{}, nil
	}
	if err != nil {
		return did, err
	}
	did.Before = len(have)
	have[0] = len(have) > 0
	for _, m := range list {
		if have[m.Version] && !again {
			continue
		}
		for _, sql := range m.Statements {
			if err := conn.Exec(ctx, sql); err != nil {
				return did, fmt.Errorf("migration %d %s of ClickHouse database %s: %w", m.Version, m.Name, d.cfg.Database, explain(err))
			}
		}
		if m.Version == 0 {
			// Another replica may have gone further meanwhile.
			if have, err = d.applied(ctx, conn); err != nil {
				return did, err
			}
			did.Before = len(have)
			continue
		}
		// Replicas that migrate at once would be in each other's way with a
		// quorum; a step whose booking is lost is run again, which may be.
		plain := ch.Context(ctx, ch.WithSettings(ch.Settings{"insert_quorum": 0}))
		if err := conn.Exec(plain, m.done(d.cfg.Database)); err != nil {
			return did, fmt.Errorf("migration %d %s of ClickHouse database %s: %w", m.Version, m.Name, d.cfg.Database, explain(err))
		}
		did.Applied = append(did.Applied, m)
		log.InfoContext(ctx, "ClickHouse schema migrated", "version", m.Version, "name", m.Name)
	}
	for v := range have {
		if v >= uint32(len(list)) {
			did.Ahead = max(did.Ahead, v)
		}
	}
	if did.Ahead > 0 {
		log.WarnContext(ctx, "ClickHouse schema is newer than this callgate; upgrade it soon", "schema", did.Ahead, "known", len(list)-1)
	}
	return did, nil
}

// The oldest ClickHouse that has all that the trail needs: lightweight UPDATE
// without being asked for.
const oldestMajor, oldestMinor = 25, 8

// supported refuses a ClickHouse that would fail at some later time.
func supported(ctx context.Context, conn driver.Conn) error {
	var version string
	if err := conn.QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return fmt.Errorf("ask for ClickHouse's version: %w", explain(err))
	}
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return fmt.Errorf("ClickHouse %s is too old: callgate needs %d.%d or newer", version, oldestMajor, oldestMinor)
	}
	return nil
}

func (d *DB) applied(ctx context.Context, conn driver.Conn) (map[uint32]bool, error) {
	rows, err := conn.Query(ctx, "SELECT DISTINCT version FROM "+d.cfg.Database+".schema_migrations")
	if err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", explain(err))
	}
	defer rows.Close()
	have := make(map[uint32]bool)
	for rows.Next() {
		var v uint32
		if err := rows.Scan(&v); err != nil {
			return nil, fmt.Errorf("read schema_migrations: %w", err)
		}
		have[v] = true
	}
	return have, rows.Err()
}

// ClickHouse's error codes that are told apart
// (https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp).
const (
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
	codeReadonly        = 164
	codeMemoryLimit     = 241
	codeAuthentication  = 516
	codeAccessDenied    = 497
	codeSyntax          = 62
	codeProhibited      = 392
	codeNoCluster       = 701
	codeTimeout         = 159
	codeNoQuorum        = 285 // fewer replicas are alive than the quorum asks for
	codeUnsatisfied     = 286 // another insert with a quorum is under way
)

// explain adds to an error what its reader can do about it.
func explain(err error) error {
	var e *ch.Exception
	if !errors.As(err, &e) {
		return explainTLS(err)
	}
	switch e.Code {
	case codeAuthentication:
		return fmt.Errorf("%w; check audit.clickhouse.username and audit.clickhouse.password", err)
	case codeAccessDenied:
		return fmt.Errorf("%w; docs/guide/clickhouse.md lists the grants that are needed", err)
	case codeNoCluster:
		return fmt.Errorf("%w; audit.clickhouse.cluster must be a name in the servers' remote_servers (SELECT DISTINCT cluster FROM system.clusters)", err)
	case codeProhibited:
		return fmt.Errorf("%w; ON CLUSTER needs distributed_ddl and Keeper in the servers' configuration", err)
	case codeSyntax:
		if strings.Contains(e.Message, "macro") {
			return fmt.Errorf("%w; define it in every server's macros, or set audit.clickhouse.replica_path and replica_name without it", err)
		}
	case codeTimeout:
		return fmt.Errorf("%w; a server of the cluster did not take part in time: is it up, and has it Keeper?", err)
	case codeNoQuorum, codeUnsatisfied:
		return fmt.Errorf("%w; audit.clickhouse.insert_quorum asks for that many live replicas", err)
	case codeUnknownDatabase, codeUnknownTable:
		return fmt.Errorf("%w; 'callgate audit migrate' makes the schema, and so does 'callgate serve' when it first reaches ClickHouse", err)
	}
	return err
}
