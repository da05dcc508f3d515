package ledger_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/callgate/callgate/audit/ledger"
)

var now = time.Date(2026, 11, 23, 14, 3, 9, 123456789, time.UTC)

func key(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	k, err := ledger.NewKey(name, now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(k.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return s, k.Verifier
}

func verifiers(t testing.TB, keys ...string) note.Verifiers {
	t.Helper()
	v, err := ledger.Verifiers(keys)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func leaf(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// Another implementation of RFC 6962, that of Go's checksum database, must
// agree on every root and accept every proof.
func TestAgreesWithAnotherImplementation(t *testing.T) {
	t.Parallel()
	const n = 70
	stored := make([]tlog.Hash, 0)
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	tree := ledger.NewTree()
	trees := []*ledger.Tree{tree.Clone()}
	var leaves []ledger.Hash
	for i := range n {
		more, err := tlog.StoredHashes(int64(i), leaf(i), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		leaves = append(leaves, ledger.LeafHash(leaf(i)))
		tree.Append(leaves[i])
		want, err := tlog.TreeHash(int64(i+1), reader)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Root() != ledger.Hash(want) {
			t.Fatalf("root at %d differs", i+1)
		}
		trees = append(trees, tree.Clone())
	}
	for size := 1; size <= n; size += 3 {
		root := tlog.Hash(trees[size].Root())
		for index := range size {
			for _, start := range []int{0, index / 2, index} {
				hashes, err := ledger.Prove(trees[start], leaves[start:size], uint64(index))
				if err != nil {
					t.Fatalf("prove %d of %d from %d: %v", index, size, start, err)
				}
				p := make(tlog.RecordProof, len(hashes))
				for i, h := range hashes {
					p[i] = tlog.Hash(h)
				}
				if err := tlog.CheckRecord(p, int64(size), root, int64(index), tlog.RecordHash(leaf(index))); err != nil {
					t.Fatalf("prove %d of %d from %d: %v", index, size, start, err)
				}
			}
		}
	}
}

func TestProofIsCheckedWhole(t *testing.T) {
	t.Parallel()
	signer, vkey := key(t, "callgate/a")
	_, other := key(t, "callgate/a")
	tree := ledger.NewTree()
	var leaves []ledger.Hash
	for i := range 13 {
		leaves = append(leaves, ledger.LeafHash(leaf(i)))
		tree.Append(leaves[i])
	}
	c := ledger.Checkpoint{Origin: "callgate/1", Size: 13, Root: tree.Root(), Time: now}
	signed, err := c.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := ledger.Prove(ledger.NewTree(), leaves, 5)
	if err != nil {
		t.Fatal(err)
	}
	good := ledger.Proof{Index: 5, Hashes: hashes, Checkpoint: signed}
	p, err := ledger.ParseProof(good.Encode())
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Verify(leaf(5), verifiers(t, vkey))
	if err != nil || got != c {
		t.Fatalf("a good proof: %v, %+v", err, got)
	}
	if _, err := p.Verify(leaf(6), verifiers(t, vkey)); !errors.Is(err, ledger.ErrNotInTree) {
		t.Errorf("another leaf: %v", err)
	}
	if _, err := p.Verify(leaf(5), verifiers(t, other)); !errors.Is(err, ledger.ErrUnsigned) {
		t.Errorf("another key: %v", err)
	}
	for name, edit := range map[string]func(*ledger.Proof){
		"another index": func(p *ledger.Proof) { p.Index = 4 },
		"a hash less":   func(p *ledger.Proof) { p.Hashes = p.Hashes[1:] },
		"a hash more":   func(p *ledger.Proof) { p.Hashes = append([]ledger.Hash{{}}, p.Hashes...) },
		"another hash":  func(p *ledger.Proof) { p.Hashes = append([]ledger.Hash{{1}}, p.Hashes[1:]...) },
		"another size": func(p *ledger.Proof) {
			p.Checkpoint = bytes.Replace(p.Checkpoint, []byte("\n13\n"), []byte("\n14\n"), 1)
		},
		"another time": func(p *ledger.Proof) { p.Checkpoint = bytes.Replace(p.Checkpoint, []byte("2026"), []byte("2025"), 1) },
		"another log": func(p *ledger.Proof) {
			p.Checkpoint = bytes.Replace(p.Checkpoint, []byte("callgate/1"), []byte("callgate/2"), 1)
		},
	} {
		bad := p
		edit(&bad)
		if _, err := bad.Verify(leaf(5), verifiers(t, vkey)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestRingRotatesAndRevokes(t *testing.T) {
	t.Parallel()
	first, err := ledger.NewKey("node a+b", now)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first.Verifier, "node-a-b+") {
		t.Errorf("key name: %s", first.Verifier)
	}
	second, err := ledger.NewKey("node a+b", now)
	if err != nil {
		t.Fatal(err)
	}
	ring := ledger.Ring{Keys: []ledger.Key{first, second}}
	if s := ring.Signing(); len(s) != 2 || s[1].Verifier != second.Verifier {
		t.Fatalf("signing: %+v", s)
	}
	data, err := ring.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if ring, err = ledger.ParseRing(data); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Revoke("node-a-b", "lost", now); err == nil {
		t.Error("an ambiguous id is taken")
	}
	if _, err := ring.Revoke(second.ID(), "lost", now); err != nil {
		t.Fatal(err)
	}
	if s := ring.Signing(); len(s) != 1 || s[0].Verifier != first.Verifier || len(ring.Trusted()) != 1 || ring.Trusted()[0] != first.Verifier {
		t.Errorf("after revoking: %+v", ring)
	}
	if _, err := ring.Revoke(second.ID(), "lost", now); err == nil {
		t.Error("a key is revoked twice")
	}
	bad := bytes.Replace(data, []byte(`"verifier": "`+second.Verifier), []byte(`"verifier": "`+first.Verifier), 1)
	if _, err := ledger.ParseRing(bad); err == nil || strings.Contains(err.Error(), second.Secret) {
		t.Errorf("a secret under another key: %v", err)
	}
}

func FuzzProof(f *testing.F) {
	signer, vkey := key(f, "callgate/a")
	tree := ledger.NewTree()
	tree.Append(ledger.LeafHash(leaf(0)))
	signed, err := ledger.Checkpoint{Origin: "o", Size: 1, Root: tree.Root(), Time: now}.Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ledger.Proof{Checkpoint: signed}.Encode())
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra AA==\nindex 0\n\n"))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 00\n" + strings.Repeat("gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n", 70) + "\n"))
	trusted := verifiers(f, vkey)
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ledger.ParseProof(text)
		if err != nil {
			return
		}
		if _, err := p.Verify([]byte("not there"), trusted); err == nil {
			t.Error("a leaf that is not in the log is proved")
		}
		again, err := ledger.ParseProof(p.Encode())
		if err != nil || again.Index != p.Index || len(again.Hashes) != len(p.Hashes) {
			t.Errorf("read again: %+v, %v", again, err)
		}
	})
}

func FuzzRing(f *testing.F) {
	k, err := ledger.NewKey("n", now)
	if err != nil {
		f.Fatal(err)
	}
	data, err := ledger.Ring{Keys: []ledger.Key{k}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"keys":[{"verifier":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ledger.ParseRing(data); err == nil {
			for _, k := range r.Signing() {
				if _, err := note.NewSigner(k.Secret); err != nil {
					t.Error("a secret that can't sign is taken")
				}
			}
		}
	})
}
