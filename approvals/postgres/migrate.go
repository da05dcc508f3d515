package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var files embed.FS

// migrations are the steps from nothing to today's schema, in order.
func migrations() []string {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		panic(err) // the pattern is fixed
	}
	out := make([]string, len(names))
	for i, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err) // it is built in
		}
		out[i] = string(text)
	}
	return out
}

const (
	// lockKey makes replicas that start together bring the schema up to date one
	// after the other.
	lockKey = 0x63616c6c67617465 // "callgate"
	// migrationTimeout bounds all of it. Later steps may have to rewrite a table.
	migrationTimeout = 5 * time.Minute
	// oldest is the first server version with all that is used here.
	oldest = 140000
)

// ready makes sure that the schema is as this program knows it. While the
// database is away, all but one in a while are told so at once.
func (s *Store) ready(ctx context.Context) error {
	if s.migrated.Load() {
		return nil
	}
	s.schema.Lock()
	defer s.schema.Unlock()
	switch {
	case s.migrated.Load():
		return nil
	case s.failed != nil && time.Since(s.failedAt) < retryMigration:
		return s.failed
	}
	if err := s.migrate(ctx, migrations()); err != nil {
		if ctx.Err() == nil {
			s.failed, s.failedAt = fmt.Errorf("prepare the database: %w", err), time.Now()
		}
		return fmt.Errorf("prepare the database: %w", err)
	}
	s.failed = nil
	s.migrated.Store(true)
	return nil
}

// migrate brings the schema up to date, all of it in one transaction.
func (s *Store) migrate(ctx context.Context, steps []string) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var have int
	// Mostly there is nothing to do, and then no right to do it is needed.
	err = conn.QueryRow(ctx, `SELECT version FROM callgate.schema_version`).Scan(&have)
	if err == nil && have == len(steps) {
		return s.restored(ctx, conn.Conn())
	}
	if err != nil && !isCode(err, "42P01") && !isCode(err, "3F000") { // no such table, no such schema
		return err
	}
	// It goes on if the caller that happened to be first hangs up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), migrationTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var server int
		if err := tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&server); err != nil {
			return err
		}
		if server < oldest {
			return fmt.Errorf("the server is PostgreSQL %d; version %d or newer is needed", server/10000, oldest/10000)
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(%d);
			SET LOCAL client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS callgate; CREATE TABLE IF NOT EXISTS callgate.schema_version (version integer NOT NULL)`, int64(lockKey))); err != nil {
			return explain(err)
		}
		err := tx.QueryRow(ctx, `SELECT version FROM callgate.schema_version`).Scan(&have)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			if _, err := tx.Exec(ctx, `INSERT INTO callgate.schema_version VALUES (0)`); err != nil {
				return err
			}
		case err != nil:
			return err
		case have > len(steps):
			return fmt.Errorf("the schema callgate is version %d and this program knows %d; a newer callgate has used the database, run that or name another database", have, len(steps))
		}
		for i, text := range steps[have:] {
			if _, err := tx.Exec(ctx, text); err != nil {
				return fmt.Errorf("migrate to schema version %d: %w", have+i+1, explain(err))
			}
		}
		_, err = tx.Exec(ctx, `UPDATE callgate.schema_version SET version = $1`, len(steps))
		return err
	})
}

// restored sees to a database that was dumped and restored into another server:
// transactions are counted anew there, and those of before would seem to be yet
// to come.
func (s *Store) restored(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `UPDATE callgate.steps SET xid = '3' WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())`)
	return err
}

// explain tells what to do about a right that is missing.
func explain(err error) error {
	if isCode(err, "42501") && !strings.Contains(err.Error(), "GRANT") {
		return fmt.Errorf("%w; let the database's owner run: GRANT CREATE ON DATABASE … TO …, or start callgate once as that owner", err)
	}
	return err
}
