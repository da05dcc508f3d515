package ledger

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// Proof shows that a leaf is in a signed tree.
type Proof struct {
	Index      uint64
	Hashes     []Hash // RFC 6962 §2.1.1
	Checkpoint []byte // signed
}

const (
	proofHeader = "c2sp.org/tlog-proof@v1"
	// maxProof bounds a proof, in bytes.
	maxProof = 32 << 10
)

// Encode writes the proof (https://c2sp.org/tlog-proof).
func (p Proof) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nindex %d\n", proofHeader, p.Index)
	for _, h := range p.Hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseProof reads what [Proof.Encode] wrote, and any other proof of that form.
func ParseProof(text []byte) (Proof, error) {
	if len(text) > maxProof {
		return Proof{}, fmt.Errorf("proof of %d bytes", len(text))
	}
	head, checkpoint, ok := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || lines[0] != proofHeader {
		return Proof{}, errors.New("not a proof: its first line is not " + proofHeader)
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:] // opaque, and ours have none
	}
	var p Proof
	if len(lines) == 0 {
		return p, errors.New("proof without an index")
	}
	number, ok := strings.CutPrefix(lines[0], "index ")
	index, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || strconv.FormatUint(index, 10) != number {
		return p, fmt.Errorf("proof with index line %q", lines[0])
	}
	p.Index = index
	if len(lines)-1 > 64 {
		return p, fmt.Errorf("proof with %d hashes", len(lines)-1)
	}
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != len(Hash{}) {
			return p, fmt.Errorf("proof with hash %q", line)
		}
		p.Hashes = append(p.Hashes, Hash(h))
	}
	p.Checkpoint = []byte(checkpoint)
	return p, nil
}

// ErrNotInTree says that a proof does not lead to the signed root.
var ErrNotInTree = errors.New("the proof does not lead to the signed root: the record, its place or the proof was changed")

// Verify checks that leaf is in the log at the proof's index under a checkpoint
// that a trusted key signed, which it returns.
func (p Proof) Verify(leaf []byte, trusted note.Verifiers) (Checkpoint, error) {
	c, _, err := OpenCheckpoint(p.Checkpoint, trusted)
	if err != nil {
		return c, err
	}
	hashes := make([][]byte, len(p.Hashes))
	for i := range p.Hashes {
		hashes[i] = p.Hashes[i][:]
	}
	h := LeafHash(leaf)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.Index, c.Size, h[:], hashes, c.Root[:]); err != nil {
		return c, ErrNotInTree
	}
	return c, nil
}

// Prove returns the inclusion proof of the leaf at index in the tree of size
// leaves. start is the tree at some size up to index, and leaves are the hashes
// of the leaves from there to size.
func Prove(start *Tree, leaves []Hash, index uint64) ([]Hash, error) {
	first := start.Size()
	size := first + uint64(len(leaves))
	if index < first || index >= size {
		return nil, fmt.Errorf("prove leaf %d: it is not in %d to %d", index, first, size)
	}
	ids, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, fmt.Errorf("prove leaf %d of %d: %w", index, size, err)
	}
	known := make(map[compact.NodeID][]byte)
	frontier := start.Frontier()
	for i, id := range compact.RangeNodes(0, first, nil) {
		known[id] = frontier[i][:]
	}
	hashes := make([][]byte, len(ids.IDs))
	for i, id := range ids.IDs {
		if hashes[i], err = subtree(id, known, first, leaves); err != nil {
			return nil, fmt.Errorf("prove leaf %d of %d: %w", index, size, err)
		}
	}
	if hashes, err = ids.Rehash(hashes, rfc6962.DefaultHasher.HashChildren); err != nil {
		return nil, fmt.Errorf("prove leaf %d of %d: %w", index, size, err)
	}
	out := make([]Hash, len(hashes))
	for i, h := range hashes {
		out[i] = Hash(h)
	}
	return out, nil
}

// subtree is the hash of one perfect subtree, of which known holds what lies
// before first, and leaves what comes from there on.
func subtree(id compact.NodeID, known map[compact.NodeID][]byte, first uint64, leaves []Hash) ([]byte, error) {
	if h, ok := known[id]; ok {
		return h, nil
	}
	begin, end := id.Coverage()
	at := max(begin, first)
	var before [][]byte
	for _, n := range compact.RangeNodes(begin, max(begin, min(first, end)), nil) {
		h, ok := known[n]
		if !ok {
			return nil, fmt.Errorf("the subtree %d to %d is not known", begin, end)
		}
		before = append(before, h)
	}
	r, err := factory.NewRange(begin, at, before)
	if err != nil {
		return nil, err
	}
	for ; at < end; at++ {
		if err := r.Append(leaves[at-first][:], nil); err != nil {
			return nil, err
		}
	}
	if h := r.Hashes(); len(h) == 1 {
		return h[0], nil
	}
	return nil, fmt.Errorf("%d to %d is no perfect subtree", begin, end)
}
