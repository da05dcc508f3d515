package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// Inspect tells how the spool in dir stands without opening it: nothing is
// written and no lock is taken, so a process may be using it meanwhile.
// maxBytes is what its size is measured against.
func Inspect(dir string, maxBytes int64) (Status, error) {
	st := Status{MaxBytes: maxBytes}
	list, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return st, fmt.Errorf("there is no spool in %s: no service has run with this configuration (audit.spool.dir)", dir)
	}
	if err != nil {
		return st, fmt.Errorf("read spool: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, idFile))
	if err != nil {
		return st, fmt.Errorf("read spool: %w", err)
	}
	id, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return st, fmt.Errorf("%s is damaged: %w", filepath.Join(dir, idFile), err)
	}
	st.ID = id.String()
	for _, s := range list {
		st.Bytes += s.size
	}
	st.Level = levelOf(st.Bytes, maxBytes, 0)
	if len(list) > 0 {
		last, err := recoverLast(dir, id, list[len(list)-1].base)
		if err != nil {
			return st, err
		}
		st.First, st.Durable = list[0].base, last.end
	}
	return st, nil
}
