package tokens

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/callgate/callgate/sqlitefile"
)

//go:embed schema.sql
var schema1 string

// file is the store of one machine.
type file struct{ db *sqlitefile.DB }

func openFile(ctx context.Context, path string) (*file, error) {
	db, err := sqlitefile.Open(ctx, path, []string{schema1})
	return &file{db}, err
}

// Close implements [Store].
func (f *file) Close() error { return f.db.Close() }

// Turn implements [Store].
func (f *file) Turn(ctx context.Context, change func([]Key) (*Key, []Key, error)) error {
	return f.db.Within(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT jwk, created FROM keys ORDER BY created, kid")
		if err != nil {
			return err
		}
		defer rows.Close()
		var have []Key
		for rows.Next() {
			var text string
			var created int64
			if err := rows.Scan(&text, &created); err != nil {
				return err
			}
			k, err := jwk.ParseKey([]byte(text))
			if err != nil {
				return ErrDamaged
			}
			have = append(have, Key{k, time.Unix(created, 0)})
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		made, over, err := change(have)
		if err != nil {
			return err
		}
		if made != nil {
			text, err := json.Marshal(made.Private)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO keys (kid, jwk, created) VALUES (?, ?, ?)", made.Private.KeyID(), string(text), made.Created.Unix()); err != nil {
				return fmt.Errorf("keep a key: %w", err)
			}
		}
		for _, k := range over {
			if _, err := tx.ExecContext(ctx, "DELETE FROM keys WHERE kid = ?", k.Private.KeyID()); err != nil {
				return fmt.Errorf("forget a key: %w", err)
			}
		}
		return nil
	})
}

// Once implements [Store].
func (f *file) Once(ctx context.Context, now time.Time, most int, list []Used) error {
	return f.db.Within(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM used WHERE until < ?", now.Unix()); err != nil {
			return fmt.Errorf("forget old assertions: %w", err)
		}
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM used").Scan(&n); err != nil {
			return fmt.Errorf("count assertions: %w", err)
		}
		if n+len(list) > most {
			return ErrFull
		}
		for _, u := range list {
			res, err := tx.ExecContext(ctx, "INSERT INTO used (id, until) VALUES (?, ?) ON CONFLICT DO NOTHING", u.ID[:], u.Until.Unix())
			if err != nil {
				return fmt.Errorf("remember an assertion: %w", err)
			}
			if fresh, err := res.RowsAffected(); err != nil || fresh != 1 {
				return errors.Join(ErrUsed, err)
			}
		}
		return nil
	})
}
