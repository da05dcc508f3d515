// Package postgres keeps the keys of tokens, and which assertions were exchanged,
// in PostgreSQL, for many processes that share it: an assertion is taken once by
// all of them, and each believes what another signed.
//
// Private keys lie there encrypted, so that who may read the database can't sign.
package postgres

import (
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/callgate/callgate/tokens"
)

// Store implements [tokens.Store].
type Store struct {
	pool *pgxpool.Pool
	seal cipher.AEAD

	mu   sync.Mutex
	made bool // the tables are there
}

var _ tokens.Store = (*Store)(nil)

// New returns a Store over a pool that it closes in the end. The database may be
// away. What seals the keys makes its own nonces, and is the same for all that
// share the database.
func New(pool *pgxpool.Pool, seal cipher.AEAD) *Store { return &Store{pool: pool, seal: seal} }

// Close implements [tokens.Store].
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// lockKey makes processes that start together do so one after the other, and one
// at a time turn keys.
const lockKey = 0x63616c6c746f6b65 // "calltoke"

const schema = `CREATE SCHEMA IF NOT EXISTS callgate;
CREATE TABLE IF NOT EXISTS callgate.token_keys (
  kid     text PRIMARY KEY,
  sealed  bytea NOT NULL,  -- RFC 7517, the private part included, encrypted
  created bigint NOT NULL  -- Unix seconds
);
CREATE TABLE IF NOT EXISTS callgate.used_assertions (
  id     bytea PRIMARY KEY, -- a hash of provider and id
  until_ bigint NOT NULL    -- Unix seconds; after it the assertion is no good anyway
);
CREATE INDEX IF NOT EXISTS used_assertions_until ON callgate.used_assertions (until_)`

// ready makes the tables where they are not there.
func (s *Store) ready(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made {
		return nil
	}
	var there bool
	// Mostly there is nothing to do, and then no right to do it is needed.
	if err := s.pool.QueryRow(ctx, `SELECT to_regclass('callgate.token_keys') IS NOT NULL AND to_regclass('callgate.used_assertions') IS NOT NULL`).Scan(&there); err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	if !there {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL client_min_messages = warning; SELECT pg_advisory_xact_lock(%d); %s", int64(lockKey), schema))
			return err
		})
		if err != nil {
			return fmt.Errorf("prepare the database: %w; where a right is missing let the database's owner run: GRANT CREATE ON DATABASE … TO …", err)
		}
	}
	s.made = true
	return nil
}

// Turn implements [tokens.Store].
func (s *Store) Turn(ctx context.Context, change func([]tokens.Key) (*tokens.Key, []tokens.Key, error)) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", int64(lockKey))); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT kid, sealed, created FROM callgate.token_keys ORDER BY created, kid")
		if err != nil {
			return err
		}
		have, err := pgx.CollectRows(rows, s.key)
		if err != nil {
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
			kid := made.Private.KeyID()
			if _, err := tx.Exec(ctx, "INSERT INTO callgate.token_keys (kid, sealed, created) VALUES ($1, $2, $3)", kid, s.seal.Seal(nil, nil, text, []byte(kid)), made.Created.Unix()); err != nil {
				return fmt.Errorf("keep a key: %w", err)
			}
		}
		for _, k := range over {
			if _, err := tx.Exec(ctx, "DELETE FROM callgate.token_keys WHERE kid = $1", k.Private.KeyID()); err != nil {
				return fmt.Errorf("forget a key: %w", err)
			}
		}
		return nil
	})
}

// ErrForeign is a key that another process sealed by another secret.
var ErrForeign = errors.New("a key was encrypted by a process with another console.key; give all that share the database the same, or delete from callgate.token_keys, and tokens given so far end")

func (s *Store) key(row pgx.CollectableRow) (tokens.Key, error) {
	var kid string
	var sealed []byte
	var created int64
	if err := row.Scan(&kid, &sealed, &created); err != nil {
		return tokens.Key{}, err
	}
	text, err := s.seal.Open(nil, nil, sealed, []byte(kid))
	if err != nil {
		return tokens.Key{}, ErrForeign
	}
	k, err := jwk.ParseKey(text)
	if err != nil || k.KeyID() != kid {
		return tokens.Key{}, tokens.ErrDamaged
	}
	return tokens.Key{Private: k, Created: time.Unix(created, 0)}, nil
}

// Once implements [tokens.Store]. Where it is not known whether it was committed,
// the error says so, and the assertion is used up.
func (s *Store) Once(ctx context.Context, now time.Time, most int, list []tokens.Used) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM callgate.used_assertions WHERE until_ < $1", now.Unix()); err != nil {
			return fmt.Errorf("forget old assertions: %w", err)
		}
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM callgate.used_assertions").Scan(&n); err != nil {
			return fmt.Errorf("count assertions: %w", err)
		}
		if n+len(list) > most {
			return tokens.ErrFull
		}
		for _, u := range list {
			done, err := tx.Exec(ctx, "INSERT INTO callgate.used_assertions (id, until_) VALUES ($1, $2) ON CONFLICT DO NOTHING", u.ID[:], u.Until.Unix())
			if err != nil {
				return fmt.Errorf("remember an assertion: %w", err)
			}
			if done.RowsAffected() != 1 {
				return tokens.ErrUsed
			}
		}
		return nil
	})
}
