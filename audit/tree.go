package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit/ledger"
)

// treeFile keeps the Merkle tree of a spool.
type treeFile struct{ slots *Slots }

// treeSlot has room for the roots of 64 subtrees.
const treeSlot = 4 << 10

// loadTree returns the tree that was kept last. The records behind it are to be
// added; first is the index of the first that is still there.
func (s *Spool) loadTree(first uint64) (*ledger.Tree, error) {
	path := filepath.Join(s.cfg.Dir, "tree")
	slots, saved, err := OpenSlots(path, treeSlot)
	if err != nil {
		return nil, err
	}
	s.treeFile = &treeFile{slots: slots}
	id, tree, err := readTree(saved)
	switch {
	case saved != nil && err != nil:
		return nil, fmt.Errorf("%s is damaged: %w; restore it: what comes next can't be proved without it", path, err)
	case saved == nil || id != s.id:
		if first > 0 {
			return nil, fmt.Errorf("%s is missing beside segments; restore it: what comes next can't be proved without it, "+
				"or move the directory away once ClickHouse has its events, to start with a new one", path)
		}
		return ledger.NewTree(), nil
	}
	s.kept = tree.Size()
	return tree, nil
}

func readTree(saved []byte) (id uuid.UUID, _ *ledger.Tree, err error) {
	if len(saved) < len(id)+8 || (len(saved)-len(id)-8)%len(ledger.Hash{}) != 0 {
		return id, nil, errors.New("it has a wrong length")
	}
	copy(id[:], saved)
	rest := saved[len(id):]
	size := binary.LittleEndian.Uint64(rest)
	var frontier []ledger.Hash
	for rest = rest[8:]; len(rest) > 0; rest = rest[len(ledger.Hash{}):] {
		frontier = append(frontier, ledger.Hash(rest[:len(ledger.Hash{})]))
	}
	tree, err := ledger.TreeOf(size, frontier)
	return id, tree, err
}

// growTree adds the leaves of the records behind the tree. A record that is
// lost leaves [ledger.LostLeaf]: no checkpoint had committed to it.
func (s *Spool) growTree(tree *ledger.Tree) error {
	r := s.NewReader(tree.Size())
	defer r.Close()
	lost := func(to uint64) {
		for tree.Size() < to {
			tree.Append(ledger.LostLeaf)
			s.prefixes = append(s.prefixes, ledger.LostLeaf[:PrefixSize]...)
		}
	}
	lost(r.Next())
	for tree.Size() < s.durable {
		records, _, err := r.Read(10_000, 32<<20)
		if err != nil {
			return fmt.Errorf("read the events since the tree was kept: %w", err)
		}
		for _, rec := range records {
			lost(rec.Index)
			h := ledger.LeafHash(rec.Leaf)
			tree.Append(h)
			s.prefixes = append(s.prefixes, h[:PrefixSize]...)
		}
		if len(records) == 0 {
			lost(s.durable)
		}
	}
	s.mu.Lock()
	s.tree = tree
	s.mu.Unlock()
	return nil
}

// PrefixSize is how many bytes of each leaf hash go beside a checkpoint.
const PrefixSize = 4

// maxPrefixes bounds what is kept of the leaf hashes between two checkpoints.
const maxPrefixes = 4 << 20

// grow adds a leaf to the tree. The caller holds mu.
func (s *Spool) grow(leaf ledger.Hash) {
	s.tree.Append(leaf)
	s.prefixes = append(s.prefixes, leaf[:PrefixSize]...)
	if len(s.prefixes) > maxPrefixes {
		s.prefixes = append(s.prefixes[:0], s.prefixes[len(s.prefixes)-maxPrefixes/2:]...)
	}
}

// Cut returns the tree, and the first bytes of the leaf hashes that it has got
// since it was last cut, the latest of them where they are too many.
func (s *Spool) Cut() (*ledger.Tree, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	prefixes := s.prefixes
	s.prefixes = nil
	return s.tree.Clone(), prefixes
}

// Tree is the Merkle tree over all leaves that are on disk.
func (s *Spool) Tree() *ledger.Tree {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tree.Clone()
}

// Keep makes the tree durable: whatever happens to the segments, the log goes
// on behind it. Whoever tells others of the spool's records (by shipping them,
// by signing the tree) keeps the tree before.
func (s *Spool) Keep() error {
	s.treeMu.Lock()
	defer s.treeMu.Unlock()
	tree := s.Tree()
	s.mu.Lock()
	kept := s.kept
	s.mu.Unlock()
	if tree.Size() == kept {
		return nil
	}
	state := binary.LittleEndian.AppendUint64(append([]byte(nil), s.id[:]...), tree.Size())
	for _, h := range tree.Frontier() {
		state = append(state, h[:]...)
	}
	if err := s.treeFile.slots.Save(state); err != nil {
		return fmt.Errorf("keep the Merkle tree: %w", err)
	}
	s.mu.Lock()
	s.kept = tree.Size()
	s.mu.Unlock()
	return nil
}
