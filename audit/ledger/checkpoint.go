package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint commits to the first Size leaves of one log.
type Checkpoint struct {
	Origin string // names the log
	Size   uint64
	Root   Hash
	Time   time.Time // when it was made, by the clock of who signed it
}

const timeLine = "time "

// maxCheckpoint bounds a signed checkpoint, in bytes.
const maxCheckpoint = 16 << 10

// text is the body of the note (https://c2sp.org/tlog-checkpoint): origin,
// size, root, and the time as an extension line.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n%s%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]),
		timeLine, c.Time.UTC().Format(time.RFC3339Nano))
}

func parseText(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return c, errors.New("a checkpoint has an origin, a size and a root, each on a line")
	}
	if c.Origin = lines[0]; c.Origin == "" {
		return c, errors.New("checkpoint without an origin")
	}
	if c.Size, err = strconv.ParseUint(lines[1], 10, 64); err != nil || lines[1] != strconv.FormatUint(c.Size, 10) {
		return c, fmt.Errorf("checkpoint with size %q", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return c, fmt.Errorf("checkpoint with root %q", lines[2])
	}
	c.Root = Hash(root)
	for _, extension := range lines[3 : len(lines)-1] {
		if extension == "" {
			return c, errors.New("checkpoint with an empty extension line")
		}
		if at, ok := strings.CutPrefix(extension, timeLine); ok {
			if c.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
				return c, fmt.Errorf("checkpoint with time %q", at)
			}
		}
	}
	return c, nil
}

// Sign returns the checkpoint as a note signed by each of the signers.
func (c Checkpoint) Sign(signers ...note.Signer) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: c.text()}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign a checkpoint: %w", err)
	}
	return signed, nil
}

// ErrUnsigned says that no trusted key signed a checkpoint.
var ErrUnsigned = errors.New("no trusted key signed it")

// OpenCheckpoint reads a signed checkpoint and returns the keys among trusted
// that signed it: at least one, else the error is [ErrUnsigned]. A signature by
// a trusted key that is wrong is an error.
func OpenCheckpoint(signed []byte, trusted note.Verifiers) (Checkpoint, []note.Signature, error) {
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, nil, fmt.Errorf("checkpoint of %d bytes", len(signed))
	}
	n, err := note.Open(signed, trusted)
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		c, err := parseText(unverified.Note.Text)
		if err != nil {
			return c, nil, err
		}
		return c, nil, fmt.Errorf("checkpoint of %s at %d: %w", c.Origin, c.Size, ErrUnsigned)
	case err != nil:
		return Checkpoint{}, nil, fmt.Errorf("read a checkpoint: %w", err)
	}
	c, err := parseText(n.Text)
	return c, n.Sigs, err
}

// Signers names the keys, name and hash, whose signatures a note claims to have.
func Signers(signed []byte) []string {
	var unverified *note.UnverifiedNoteError
	_, err := note.Open(signed, note.VerifierList())
	if !errors.As(err, &unverified) {
		return nil
	}
	var out []string
	for _, s := range unverified.Note.UnverifiedSigs {
		out = append(out, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return out
}
