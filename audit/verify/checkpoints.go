package verify

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/ledger"
)

// mark is a place in a log at which something is signed.
type mark struct {
	size     uint64
	at       time.Time // as it says itself
	signed   []byte
	stored   *clickhouse.StoredCheckpoint // nil where only the witness has it
	witness  bool
	frontier []ledger.Hash
}

// trust is who is believed at some point of a log.
type trust struct {
	keys    []string
	revoked []string
	verify  note.Verifiers
}

func newTrust(keys []string) (*trust, error) {
	t := &trust{keys: slices.Clone(keys)}
	return t, t.renew()
}

func (t *trust) renew() error {
	var live []string
	for _, k := range t.keys {
		if !slices.Contains(t.revoked, k) {
			live = append(live, k)
		}
	}
	var err error
	t.verify, err = ledger.Verifiers(live)
	return err
}

// add trusts a key that a proved event adds.
func (t *trust) add(key string) {
	if slices.Contains(t.keys, key) {
		return
	}
	t.keys = append(t.keys, key)
	if t.renew() != nil {
		t.keys = t.keys[:len(t.keys)-1] // no key: what the event says is of no use
	}
}

func (t *trust) revoke(key string) {
	t.revoked = append(t.revoked, key)
	_ = t.renew() // fewer of the same keys
}

// witnessed sorts the checkpoints of the witness by spool, and adds spools that
// only it knows.
func (v *verifier) witnessed(spools *[]clickhouse.SpoolEvents) (map[string][]mark, error) {
	out := make(map[string][]mark)
	for _, signed := range v.cfg.Witness {
		c, _, err := ledger.OpenCheckpoint(signed, note.VerifierList()) // only to see which log it is of
		if !errors.Is(err, ledger.ErrUnsigned) {
			return nil, fmt.Errorf("the witness has something that is no checkpoint: %w", err)
		}
		spool, ok := strings.CutPrefix(c.Origin, audit.Origin(""))
		if !ok {
			continue // another log that it witnesses
		}
		known(spools, spool)
		out[spool] = append(out[spool], mark{size: c.Size, at: c.Time, signed: signed, witness: true})
	}
	return out, nil
}

// marks merges the checkpoints beside the rows with those of the witness, by
// size.
func marks(stored []clickhouse.StoredCheckpoint, witness []mark) []mark {
	out := slices.Clone(witness)
	for i := range stored {
		m := mark{size: stored[i].Size, at: stored[i].Time, signed: []byte(stored[i].Note), stored: &stored[i]}
		for _, h := range stored[i].Frontier {
			m.frontier = append(m.frontier, ledger.Hash([]byte(h)))
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b mark) int {
		switch {
		case a.size < b.size:
			return -1
		case a.size > b.size:
			return 1
		}
		return a.at.Compare(b.at)
	})
	return out
}

// open checks a mark's signature and that its row says what is signed. The error
// is ledger.ErrUnsigned where no trusted key signed it.
func (m mark) open(spool string, t *trust) (ledger.Checkpoint, error) {
	c, _, err := ledger.OpenCheckpoint(m.signed, t.verify)
	switch {
	case err != nil:
		return c, err
	case c.Origin != audit.Origin(spool):
		return c, fmt.Errorf("it is of another log, %q", c.Origin)
	case c.Size != m.size:
		return c, fmt.Errorf("its row says that it covers %d events, it covers %d", m.size, c.Size)
	}
	if s := m.stored; s != nil {
		if !bytes.Equal([]byte(s.Root), c.Root[:]) || s.Time.UnixMilli() != c.Time.UnixMilli() {
			return c, errors.New("its row has another root or time than was signed")
		}
	}
	return c, nil
}

// start is the tree of a mark from which the log can be read without the events
// before; nil where it has none that fits its signed root.
func (m mark) start(spool string, t *trust) *ledger.Tree {
	if len(m.frontier) == 0 && m.size > 0 {
		return nil
	}
	c, err := m.open(spool, t)
	if err != nil {
		return nil
	}
	tree, err := ledger.TreeOf(m.size, m.frontier)
	if err != nil || tree.Root() != c.Root {
		return nil
	}
	return tree
}
