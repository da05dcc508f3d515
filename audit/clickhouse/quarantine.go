package clickhouse

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/callgate/callgate/audit"
)

// quarantine keeps the rows that ClickHouse refuses, so that they stop nobody
// and are not lost. A file holds one row and the reason.
type quarantine struct{ dir string }

// QuarantineDir is where the rows of the spool in dir lie that ClickHouse
// refused.
func QuarantineDir(dir string) string { return filepath.Join(dir, "quarantine") }

// Quarantined is how many rows lie in the quarantine of the spool in dir.
func Quarantined(dir string) int { return quarantine{QuarantineDir(dir)}.count() }

// quarantined is the content of a file.
type quarantined struct {
	Table  string    `json:"table"`
	Spool  string    `json:"spool"`
	Index  uint64    `json:"spool_index"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	// Unjoined is the column of a row of events.
	Unjoined bool `json:"unjoined,omitempty"`
	// Events are the records that the row was made of, to make it again.
	Events []quarantinedEvent `json:"events"`
	// Sum is the SHA-256 of the file's content without it, so that damage is
	// not taken for what was recorded.
	Sum []byte `json:"sha256,omitempty"`
}

// seal returns q with its Sum.
func (q quarantined) seal() (quarantined, error) {
	q.Sum = nil
	data, err := json.Marshal(q)
	if err != nil {
		return q, fmt.Errorf("quarantine a row: %w", err)
	}
	sum := sha256.Sum256(data)
	q.Sum = sum[:]
	return q, nil
}

type quarantinedEvent struct {
	Leaf  []byte `json:"leaf"`
	Aside []byte `json:"aside,omitempty"`
	Head  []byte `json:"body_head,omitempty"`
	Tail  []byte `json:"body_tail,omitempty"`
}

// put returns when q is on disk. The same row goes to the same file.
func (k quarantine) put(q quarantined) (string, error) {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return "", fmt.Errorf("quarantine a row: %w", err)
	}
	q, err := q.seal()
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(q)
	if err != nil {
		return "", fmt.Errorf("quarantine a row: %w", err)
	}
	path := k.path(q.Table, q.Index)
	if err := audit.WriteFile(path, data); err != nil {
		return "", fmt.Errorf("quarantine a row: %w", err)
	}
	return path, nil
}

func (k quarantine) path(table string, index uint64) string {
	return filepath.Join(k.dir, fmt.Sprintf("%s-%020d.json", table, index))
}

// has reports whether that row lies there.
func (k quarantine) has(table string, index uint64) bool {
	_, err := os.Stat(k.path(table, index))
	return err == nil
}

// lock keeps two processes from sending the same rows at once. The caller must
// unlock it.
func (k quarantine) lock(ctx context.Context) (unlock func() error, err error) {
	if _, err := os.Stat(k.dir); errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	l := flock.New(filepath.Join(k.dir, "lock"), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, fmt.Errorf("lock the quarantine %s: %w", k.dir, err)
	}
	return l.Unlock, nil
}

// count is how many rows lie there.
func (k quarantine) count() int {
	files, err := filepath.Glob(filepath.Join(k.dir, "*.json"))
	if err != nil {
		return 0
	}
	return len(files)
}
