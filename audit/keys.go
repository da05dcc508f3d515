package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/callgate/callgate/audit/ledger"
)

// Keys is the file of a replica's ledger keys. Commands edit it while the
// replica runs.
type Keys struct {
	Path string
	Name string // of keys that are made
}

// Load reads the ring.
func (k Keys) Load() (ledger.Ring, error) {
	data, err := os.ReadFile(k.Path)
	if err != nil {
		return ledger.Ring{}, fmt.Errorf("read the ledger keys: %w", err)
	}
	ring, err := ledger.ParseRing(data)
	if err != nil {
		return ring, fmt.Errorf("read the ledger keys in %s: %w; restore the file", k.Path, err)
	}
	return ring, nil
}

// keysPatience is how long another process may be editing the file.
const keysPatience = 5 * time.Second

// Edit changes the ring and returns it. A file that is not there is an empty
// ring. Nothing is written where edit fails.
func (k Keys) Edit(ctx context.Context, edit func(*ledger.Ring) error) (ledger.Ring, error) {
	// A first key may be made before the replica ever ran.
	if err := os.MkdirAll(filepath.Dir(k.Path), 0o700); err != nil {
		return ledger.Ring{}, fmt.Errorf("make the directory of the ledger keys: %w", err)
	}
	// An edit takes milliseconds; who holds the lock for long hangs.
	bounded, cancel := context.WithTimeoutCause(ctx, keysPatience, errors.New("another process has it; is one stopped in the middle?"))
	defer cancel()
	lock := flock.New(k.Path + ".lock")
	if _, err := lock.TryLockContext(bounded, 20*time.Millisecond); err != nil {
		if bounded.Err() != nil {
			err = context.Cause(bounded)
		}
		return ledger.Ring{}, fmt.Errorf("lock %s.lock: %w", k.Path, err)
	}
	defer lock.Unlock()
	ring, err := k.Load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	if err := edit(&ring); err != nil {
		return ring, err
	}
	data, err := ring.Encode()
	if err != nil {
		return ring, err
	}
	if err := WriteFile(k.Path, data); err != nil {
		return ring, fmt.Errorf("write the ledger keys: %w", err)
	}
	return ring, nil
}

// Add makes a key that signs from now on.
func (k Keys) Add(ctx context.Context) (ledger.Key, error) {
	made, err := ledger.NewKey(k.Name, time.Now())
	if err != nil {
		return made, err
	}
	_, err = k.Edit(ctx, func(r *ledger.Ring) error {
		r.Keys = append(r.Keys, made)
		return nil
	})
	return made, err
}
