// Package sqlitefile opens a SQLite file that several processes of one machine
// may share, readable for its owner alone, and brings its schema up to date.
package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sync/semaphore"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// DB is an open file.
type DB struct {
	// Write is one connection: SQLite has one writer anyway. Its transactions are
	// immediate.
	Write *sql.DB
	Read  *sql.DB
	turn  *semaphore.Weighted
}

// readers is how many connections read at once.
const readers = 4

// Open opens file, making it where there is none, and applies those of the
// steps that it has not seen. Steps are only ever added to.
func Open(ctx context.Context, file string, steps []string) (*DB, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	if err := private(abs); err != nil {
		return nil, fmt.Errorf("%w; it must be in a directory this user can write to", err)
	}
	d := &DB{turn: semaphore.NewWeighted(1)}
	// FULL: what somebody was told of survives a power cut.
	if d.Write, err = sql.Open("sqlite", dsn(abs, "_txlock=immediate&_pragma=synchronous(FULL)&_pragma=secure_delete(1)")); err != nil {
		return nil, err
	}
	d.Write.SetMaxOpenConns(1)
	if err := d.migrate(ctx, steps); err != nil {
		return nil, errors.Join(err, d.Write.Close())
	}
	if d.Read, err = sql.Open("sqlite", dsn(abs, "_pragma=query_only(1)")); err != nil {
		return nil, errors.Join(err, d.Write.Close())
	}
	d.Read.SetMaxOpenConns(readers)
	d.Read.SetMaxIdleConns(readers)
	return d, nil
}

// Within runs do in a transaction that holds the write lock from its start. Who
// waits for it has its turn in the order of coming: of those who wait for SQLite's
// lock or for a connection of database/sql any may be next, and the unlucky one's
// time runs out where the disk is slow.
func (d *DB) Within(ctx context.Context, do func(*sql.Tx) error) error {
	if err := d.turn.Acquire(ctx, 1); err != nil {
		return err
	}
	defer d.turn.Release(1)

	tx, err := d.Write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Close closes the file.
func (d *DB) Close() error { return errors.Join(d.Read.Close(), d.Write.Close()) }

// private makes an empty file that only its owner can read. SQLite gives its
// side files the same mode. An existing file is not opened here: closing it
// would drop the locks that this process holds on it.
func private(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case errors.Is(err, os.ErrExist):
		return os.Chmod(file, 0o600)
	case err != nil:
		return err
	}
	return f.Close()
}

func dsn(file, options string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(file)}
	return u.String() + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&" + options
}

// migrate brings the schema up to date in one transaction, so that of two
// processes that open a new file together one does it.
func (d *DB) migrate(ctx context.Context, steps []string) error {
	tx, err := d.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin migration: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	var have int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > len(steps) {
		return fmt.Errorf("its schema is version %d and this program knows %d; a newer callgate has used the file, run that or name another file", have, len(steps))
	}
	for i, text := range steps[have:] {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("migrate to schema version %d: %w", have+i+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(steps))); err != nil {
		return fmt.Errorf("write schema version: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit migration: %w", err)
	}
	return nil
}
