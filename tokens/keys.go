package tokens

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

// ahead is how long a key is published before it signs: longer than anybody goes
// without looking for new ones, so that no call meets a key that is not known.
const ahead = 15 * time.Minute

// keys are those of one moment.
type keys struct {
	signing jwk.Key // private
	public  jwk.Set
}

// stored is a key as it lies in the store.
type stored struct {
	private jwk.Key
	created time.Time
}

// turn makes a new key where one is due, forgets those that nothing valid is
// signed with any more, and takes up what other processes with the same store
// have made.
func (i *Issuer) turn(ctx context.Context) error {
	now := i.cfg.Now()
	tx, err := i.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("read the keys of tokens: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing once it is committed
	all, err := read(ctx, tx)
	if err != nil {
		return fmt.Errorf("read the keys of tokens: %w", err)
	}
	if n := len(all); n == 0 || !now.Before(all[n-1].created.Add(i.cfg.Rotate)) {
		k, err := newKey()
		if err != nil {
			return fmt.Errorf("make a key for tokens: %w", err)
		}
		if err := write(ctx, tx, k, now); err != nil {
			return fmt.Errorf("keep a key for tokens: %w", err)
		}
		all = append(all, stored{k, now})
		i.cfg.Log.InfoContext(ctx, "a new key for tokens", "kid", k.KeyID())
	}
	at := present(all, now)
	// What an older key signed last is over once its successor has signed for
	// as long as a token lives.
	if now.After(all[at].created.Add(ahead + i.cfg.Lifetime + i.cfg.ClockSkew + turnEvery)) {
		for _, old := range all[:at] {
			if _, err := tx.ExecContext(ctx, "DELETE FROM keys WHERE kid = ?", old.private.KeyID()); err != nil {
				return fmt.Errorf("forget a key for tokens: %w", err)
			}
		}
		all, at = all[at:], 0
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("keep the keys of tokens: %w", err)
	}
	next := &keys{signing: all[at].private, public: jwk.NewSet()}
	for _, k := range all {
		public, err := k.private.PublicKey()
		if err == nil {
			err = next.public.AddKey(public)
		}
		if err != nil {
			return fmt.Errorf("publish the keys of tokens: %w", err)
		}
	}
	i.keys.Store(next)
	return nil
}

// present is which key signs now: the newest that has been published for long
// enough, or the only one.
func present(all []stored, now time.Time) int {
	at := 0
	for n, k := range all {
		if !now.Before(k.created.Add(ahead)) {
			at = n
		}
	}
	return at
}

func newKey() (jwk.Key, error) {
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	k, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, err
	}
	print, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	for name, v := range map[string]any{jwk.KeyIDKey: base64.RawURLEncoding.EncodeToString(print), jwk.AlgorithmKey: jwa.ES256, jwk.KeyUsageKey: "sig"} {
		if err := k.Set(name, v); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func read(ctx context.Context, tx *sql.Tx) ([]stored, error) {
	rows, err := tx.QueryContext(ctx, "SELECT jwk, created FROM keys ORDER BY created, kid")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []stored
	for rows.Next() {
		var text string
		var created int64
		if err := rows.Scan(&text, &created); err != nil {
			return nil, err
		}
		k, err := jwk.ParseKey([]byte(text))
		if err != nil {
			return nil, errors.New("a key is damaged; remove the store, and tokens given so far end")
		}
		out = append(out, stored{k, time.Unix(created, 0)})
	}
	return out, rows.Err()
}

func write(ctx context.Context, tx *sql.Tx, k jwk.Key, now time.Time) error {
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO keys (kid, jwk, created) VALUES (?, ?, ?)", k.KeyID(), string(text), now.Unix())
	return err
}

// mostUsed bounds the assertions that are remembered. Where they are more, no
// further one is taken, since one of them might have been used.
const mostUsed = 100_000

var (
	errUsed = errors.New("used before")
	errFull = errors.New("too many assertions to remember")
)

// once remembers that assertions are used, all or none, or says that one was.
func (i *Issuer) once(ctx context.Context, list []used) error {
	if len(list) == 0 {
		return nil
	}
	now := i.cfg.Now()
	tx, err := i.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("remember an assertion: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing once it is committed
	if _, err := tx.ExecContext(ctx, "DELETE FROM used WHERE until < ?", now.Unix()); err != nil {
		return fmt.Errorf("forget old assertions: %w", err)
	}
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM used").Scan(&n); err != nil {
		return fmt.Errorf("count assertions: %w", err)
	}
	if n+len(list) > mostUsed {
		return errFull
	}
	for _, u := range list {
		res, err := tx.ExecContext(ctx, "INSERT INTO used (id, until) VALUES (?, ?) ON CONFLICT DO NOTHING", u.id[:], u.until.Unix())
		if err != nil {
			return fmt.Errorf("remember an assertion: %w", err)
		}
		if fresh, err := res.RowsAffected(); err != nil || fresh != 1 {
			return errors.Join(errUsed, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("remember an assertion: %w", err)
	}
	return nil
}

// used is an assertion that may be exchanged once.
type used struct {
	id    [sha256.Size]byte
	until time.Time
}
