package control

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/sqlitefile"
	"github.com/callgate/callgate/xds/policyv1"
)

//go:embed schema.sql
var schema1 string

//go:embed schema_tools.sql
var schema2 string

// Store keeps what the control plane must not forget in a SQLite file.
type Store struct{ db *sqlitefile.DB }

// OpenStore opens the store in file, and makes it where there is none.
func OpenStore(ctx context.Context, file string) (*Store, error) {
	db, err := sqlitefile.Open(ctx, file, []string{schema1, schema2})
	if err != nil {
		return nil, fmt.Errorf("open the control plane's store %s: %w", file, err)
	}
	return &Store{db}, nil
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Version is a stored policy, without its content.
type Version struct {
	Version string
	Source  string // files or push
	Author  string
	Message string
	Created time.Time
}

// Rollout is one step in the life of policies: what decided from then on.
type Rollout struct {
	Seq     int64
	At      time.Time
	Action  string // one of the Action constants
	Stable  string
	Canary  string // empty: none
	Percent int
	Nodes   string // a selector
	Author  string
	Message string
}

// What a Rollout can be. Of a refused one only the version that was refused is
// told, as its canary; what decided before goes on.
const (
	ActionPush     = "push"
	ActionFiles    = "files"
	ActionRollback = "rollback"
	ActionCanary   = "canary"
	ActionPromote  = "promote"
	ActionAbort    = "abort"
	ActionRefused  = "refused"
)

// ErrUnknownVersion says that a version was never stored.
var ErrUnknownVersion = errors.New("there is no such policy version; callgate policy history lists them")

// maxBundle bounds a stored policy, in bytes unpacked.
const maxBundle = 128 << 20

func (s *Store) putVersion(ctx context.Context, p *policyv1.Policy, source string) error {
	data, err := proto.Marshal(p)
	if err != nil {
		return fmt.Errorf("store policy %s: %w", p.GetVersion(), err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(data); err != nil {
		return fmt.Errorf("store policy %s: %w", p.GetVersion(), err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("store policy %s: %w", p.GetVersion(), err)
	}
	// Who stored it first is its author.
	_, err = s.db.Write.ExecContext(ctx, `INSERT INTO versions (version, bundle, source, author, message, created) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (version) DO NOTHING`, p.GetVersion(), packed.Bytes(), source, p.GetAuthor(), p.GetMessage(), p.GetCreated().AsTime().UnixNano())
	if err != nil {
		return fmt.Errorf("store policy %s: %w", p.GetVersion(), err)
	}
	return nil
}

func (s *Store) version(ctx context.Context, name string) (*policyv1.Policy, error) {
	var packed []byte
	switch err := s.db.Read.QueryRowContext(ctx, `SELECT bundle FROM versions WHERE version = ?`, name).Scan(&packed); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("%q: %w", name, ErrUnknownVersion)
	case err != nil:
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack policy %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(z, maxBundle))
	if err != nil {
		return nil, fmt.Errorf("unpack policy %s: %w", name, err)
	}
	p := new(policyv1.Policy)
	if err := proto.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	return p, nil
}

// Versions lists stored policies, the newest first.
func (s *Store) Versions(ctx context.Context, limit int) ([]Version, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT version, source, author, message, created FROM versions ORDER BY created DESC LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	defer rows.Close()
	var out []Version
	for rows.Next() {
		var v Version
		var created int64
		if err := rows.Scan(&v.Version, &v.Source, &v.Author, &v.Message, &created); err != nil {
			return nil, fmt.Errorf("list policies: %w", err)
		}
		v.Created = time.Unix(0, created).UTC()
		out = append(out, v)
	}
	return out, rows.Err()
}

func (s *Store) addRollout(ctx context.Context, r Rollout) error {
	_, err := s.db.Write.ExecContext(ctx, `INSERT INTO rollouts (at, action, stable, canary, percent, nodes, author, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		r.At.UnixNano(), r.Action, r.Stable, r.Canary, r.Percent, r.Nodes, r.Author, r.Message)
	if err != nil {
		return fmt.Errorf("store the rollout of %s: %w", r.Stable, err)
	}
	return nil
}

// History lists rollouts, the newest first.
func (s *Store) History(ctx context.Context, limit int) ([]Rollout, error) {
	return s.rollouts(ctx, `SELECT seq, at, action, stable, canary, percent, nodes, author, message FROM rollouts ORDER BY seq DESC LIMIT ?`, limit)
}

// current is what decides; false where nothing ever did.
func (s *Store) current(ctx context.Context) (Rollout, bool, error) {
	list, err := s.rollouts(ctx, `SELECT seq, at, action, stable, canary, percent, nodes, author, message FROM rollouts
		WHERE action != 'refused' ORDER BY seq DESC LIMIT ?`, 1)
	if err != nil || len(list) == 0 {
		return Rollout{}, false, err
	}
	return list[0], true, nil
}

// before is the version that decided before the present one; "" where none did.
func (s *Store) before(ctx context.Context, stable string) (string, error) {
	list, err := s.rollouts(ctx, `SELECT seq, at, action, stable, canary, percent, nodes, author, message FROM rollouts
		WHERE action != 'refused' AND stable != ? ORDER BY seq DESC LIMIT ?`, stable, 1)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0].Stable, nil
}

func (s *Store) rollouts(ctx context.Context, query string, args ...any) ([]Rollout, error) {
	rows, err := s.db.Read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read rollouts: %w", err)
	}
	defer rows.Close()
	var out []Rollout
	for rows.Next() {
		var r Rollout
		var at int64
		if err := rows.Scan(&r.Seq, &at, &r.Action, &r.Stable, &r.Canary, &r.Percent, &r.Nodes, &r.Author, &r.Message); err != nil {
			return nil, fmt.Errorf("read rollouts: %w", err)
		}
		r.At = time.Unix(0, at).UTC()
		out = append(out, r)
	}
	return out, rows.Err()
}

func (s *Store) fact(ctx context.Context, name string) (string, error) {
	var v string
	err := s.db.Read.QueryRowContext(ctx, `SELECT value FROM facts WHERE name = ?`, name).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

func (s *Store) setFact(ctx context.Context, name, value string) error {
	if _, err := s.db.Write.ExecContext(ctx, `INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}
