// Package sqlite keeps approvals in a SQLite file: the store of one machine.
// Several processes may have the file open. It holds request bodies, so it is
// readable for its owner alone.
package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/sqlitefile"
)

var (
	//go:embed schema.sql
	schema1 string
	//go:embed schema2.sql
	schema2 string
	//go:embed schema3.sql
	schema3 string
	//go:embed schema4.sql
	schema4 string
)

// versions are the steps from an empty file to today's schema. They are only
// ever added to.
func versions() []string { return []string{schema1, schema2, schema3, schema4} }

// Store implements [approvals.Store].
type Store struct {
	file string
	db   *sqlitefile.DB
}

var _ approvals.Store = (*Store)(nil)

// Open opens the store in file, and makes it where there is none.
func Open(ctx context.Context, file string) (*Store, error) {
	db, err := sqlitefile.Open(ctx, file, versions())
	if err != nil {
		return nil, fmt.Errorf("open approvals %s: %w", file, err)
	}
	return &Store{file: file, db: db}, nil
}

// Close closes the file. Holds that are open stay so.
func (s *Store) Close() error { return s.db.Close() }

// within runs do in a transaction that holds the write lock from its start.
func (s *Store) within(ctx context.Context, do func(*sql.Tx) error) error {
	return s.db.Within(ctx, do)
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return approvals.ErrNotFound
	}
	return err
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
