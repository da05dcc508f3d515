package clickhouse

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"text/template"

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

// Migrations returns the steps for database, in order.
func Migrations(database string) ([]Migration, error) {
	if database == "" {
		database = defaultDatabase
	}
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var list []Migration
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
			sql, err := render(database, statement)
			if err != nil {
				return nil, fmt.Errorf("migration %s: %w", file, err)
			}
			m.Statements = append(m.Statements, sql)
		}
		list = append(list, m)
	}
	return list, nil
}

// render fills in where a statement's tables live. This is the one place that
// knows, so that replicated and distributed tables need no other DDL.
func render(database, statement string) (string, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"table":  func(name string) string { return database + "." + name },
		"engine": func(name string) string { return name },
	}).Parse(statement)
	if err != nil {
		return "", err
	}
	var sql strings.Builder
	if err := t.Execute(&sql, nil); err != nil {
		return "", err
	}
	return strings.TrimSpace(sql.String()), nil
}

// Migrate brings the schema up to this build's. It may run in several replicas
// at once. A schema that is ahead of this build is left alone: migrations only
// add, so an older replica goes on beside newer ones.
func (d *DB) Migrate(ctx context.Context, log *slog.Logger) error {
	// The database may not exist yet, so it can't be the connection's.
	conn, err := d.connect("")
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := Migrations(d.cfg.Database)
	if err != nil {
		return err
	}
	table, err := render(d.cfg.Database, migrationTable)
	if err != nil {
		return err
	}
	for _, sql := range []string{"CREATE DATABASE IF NOT EXISTS " + d.cfg.Database, table} {
		if err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare ClickHouse database %s: %w", d.cfg.Database, explain(err))
		}
	}
	have, err := d.applied(ctx, conn)
	if err != nil {
		return err
	}
	for _, m := range list {
		if have[m.Version] {
			continue
		}
		for _, sql := range m.Statements {
			if err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("migration %d %s: %w", m.Version, m.Name, explain(err))
			}
		}
		record := fmt.Sprintf("INSERT INTO %s.schema_migrations (version, name) VALUES (%d, '%s')", d.cfg.Database, m.Version, m.Name)
		if err := conn.Exec(ctx, record); err != nil {
			return fmt.Errorf("migration %d %s: %w", m.Version, m.Name, explain(err))
		}
		log.InfoContext(ctx, "ClickHouse schema migrated", "version", m.Version, "name", m.Name)
	}
	for v := range have {
		if v > uint32(len(list)) {
			log.WarnContext(ctx, "ClickHouse schema is newer than this callgate; upgrade it soon", "schema", v, "known", len(list))
		}
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
)

// explain adds to an error what its reader can do about it.
func explain(err error) error {
	var e *ch.Exception
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case codeAuthentication:
		return fmt.Errorf("%w; check clickhouse.username and clickhouse.password", err)
	case codeAccessDenied:
		return fmt.Errorf("%w; grant the user CREATE, SELECT, INSERT and ALTER UPDATE on the database", err)
	case codeUnknownDatabase, codeUnknownTable:
		return fmt.Errorf("%w; 'callgate serve' makes the schema when it first reaches ClickHouse", err)
	}
	return err
}
