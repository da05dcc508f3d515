package tokens

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// Store keeps signing keys, and which assertions were exchanged, for all processes
// that share it. What it returns without an error is durable.
type Store interface {
	// Turn has change look at the keys, the oldest first, and keeps the key that
	// it makes and drops those that are over. It does so for one process at a
	// time, whole or not at all.
	Turn(ctx context.Context, change func(have []Key) (made *Key, over []Key, err error)) error
	// Once remembers that assertions are used, all or none. The error is
	// [ErrUsed] where one was before, and [ErrFull] where more than most would be
	// remembered; those that ended before now are forgotten.
	Once(ctx context.Context, now time.Time, most int, list []Used) error
	Close() error
}

// Key is a signing key.
type Key struct {
	Private jwk.Key
	Created time.Time // with whole seconds
}

// Used is an assertion that may be exchanged once, until it ends.
type Used struct {
	ID    [sha256.Size]byte // a hash of provider and id
	Until time.Time
}

// The errors of [Store.Once].
var (
	ErrUsed = errors.New("used before")
	ErrFull = errors.New("too many assertions to remember")
)

// ErrDamaged is a key in a store that can't be read.
var ErrDamaged = errors.New("a key is damaged; remove the keys from the store, and tokens given so far end")

// mostUsed bounds the assertions that are remembered. Where they are more, no
// further one is taken, since one of them might have been used.
const mostUsed = 100_000

// once remembers that assertions are used, all or none, or says that one was.
func (i *Issuer) once(ctx context.Context, list []Used) error {
	if len(list) == 0 {
		return nil
	}
	return i.store.Once(ctx, i.cfg.Now(), mostUsed, list)
}
