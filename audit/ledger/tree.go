package ledger

import (
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Hash is a node of the tree: SHA-256.
type Hash [32]byte

// LeafHash is the hash of a leaf (RFC 6962 §2.1).
func LeafHash(leaf []byte) Hash { return Hash(rfc6962.DefaultHasher.HashLeaf(leaf)) }

// LostLeaf stands for a leaf that was lost before any checkpoint committed to
// it: the hash of an empty leaf, which no event has.
var LostLeaf = LeafHash(nil)

var factory = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// Tree is what must be kept of a Merkle tree to append to it: the roots of its
// perfect subtrees, at most 64. It is not safe for concurrent use.
type Tree struct{ r *compact.Range }

// NewTree returns the empty tree.
func NewTree() *Tree { return &Tree{r: factory.NewEmptyRange(0)} }

// TreeOf is the tree of that size with these subtrees, largest first, as
// [Tree.Frontier] returned them.
func TreeOf(size uint64, frontier []Hash) (*Tree, error) {
	hashes := make([][]byte, len(frontier))
	for i := range frontier {
		hashes[i] = frontier[i][:]
	}
	r, err := factory.NewRange(0, size, hashes)
	if err != nil {
		return nil, fmt.Errorf("restore a tree of %d leaves: %w", size, err)
	}
	return &Tree{r: r}, nil
}

// Append adds a leaf by its hash.
func (t *Tree) Append(leaf Hash) {
	// The visitor is all that can make it fail, and there is none.
	_ = t.r.Append(leaf[:], nil)
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.r.End() }

// Root is the root hash; that of nothing (RFC 6962 §2.1) for the empty tree.
func (t *Tree) Root() Hash {
	if t.Size() == 0 {
		return Hash(rfc6962.DefaultHasher.EmptyRoot())
	}
	root, err := t.r.GetRootHash(nil)
	if err != nil || len(root) != len(Hash{}) {
		panic(fmt.Sprintf("root of a tree that begins at 0: %v", err)) // what the library rules out
	}
	return Hash(root)
}

// Frontier is the roots of the perfect subtrees, largest first.
func (t *Tree) Frontier() []Hash {
	hashes := t.r.Hashes()
	out := make([]Hash, len(hashes))
	for i, h := range hashes {
		out[i] = Hash(h)
	}
	return out
}

// Clone returns a tree of its own.
func (t *Tree) Clone() *Tree {
	c, err := TreeOf(t.Size(), t.Frontier())
	if err != nil {
		panic(err) // what Frontier returns fits
	}
	return c
}
