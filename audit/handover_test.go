package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callgate/callgate/audit/ledger"
)

// The checkpoint by which a key hands over can't be signed again, so it must
// come through a kill, and through a ClickHouse that is away for days.
func TestHandoverIsKeptUntilShipped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := sign(t, dir, nil)
	s.next()
	old := s.ring().Keys[0]
	if _, err := s.keys.Add(t.Context()); err != nil {
		t.Fatal(err)
	}
	both, by := s.next()
	if len(by) != 2 {
		t.Fatalf("signed by %v", by)
	}
	s.spool.Close() // nothing was shipped

	trusted, err := ledger.Verifiers([]string{old.Verifier})
	if err != nil {
		t.Fatal(err)
	}
	has := func(s *signing) bool {
		return slices.ContainsFunc(s.Pending(1<<60), func(cp SignedCheckpoint) bool {
			c, _, err := ledger.OpenCheckpoint(cp.Signed, trusted)
			return err == nil && c.Size == both.Size && cp.Checkpoint == c
		})
	}
	s = sign(t, dir, nil)
	s.now = s.now.Add(time.Hour)
	for range 9 {
		s.next()
	}
	for range 3 { // as after days
		s.pending = thin(s.pending)
	}
	if !has(s) {
		t.Fatal("nobody vouches for the new key any more")
	}
	list := s.Pending(1 << 60)
	if !slices.IsSortedFunc(list, func(a, b SignedCheckpoint) int { return a.Time.Compare(b.Time) }) {
		t.Error("they are not in order")
	}
	s.Shipped(list[len(list)-1])
	if s.ring().Keys[1].Handover == "" {
		t.Error("it was forgotten before it was shipped")
	}
	s.next()
	if s.ring().Keys[1].Handover != "" || s.ring().Keys[0].Secret != "" {
		t.Error("it is kept for ever, or the old secret is")
	}
	s.spool.Close()
	s = sign(t, dir, nil)
	s.now = s.now.Add(2 * time.Hour)
	s.next()
	if has(s) {
		t.Error("it is shipped again and again")
	}
}

// A new key that is revoked while it takes over leaves the old one in charge.
func TestRevokedWhileTakingOver(t *testing.T) {
	t.Parallel()
	s := sign(t, t.TempDir(), nil)
	s.next()
	old := s.ring().Keys[0]
	made, err := s.keys.Add(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := s.ring() // as a checkpointer read it, just before
	if _, err := s.keys.Edit(t.Context(), func(r *ledger.Ring) error { _, err := r.Revoke(made.ID(), "a mistake", time.Now()); return err }); err != nil {
		t.Fatal(err)
	}
	if err := s.told(t.Context(), before, SignedCheckpoint{Signed: []byte("x"), handover: true}); err != nil {
		t.Fatal(err)
	}
	if _, by := s.next(); len(by) != 1 || by[0] != old.ID() || s.ring().Keys[1].Handover != "" {
		t.Errorf("signed by %v", by)
	}
}

// A handover that somebody put into the ring is not shipped.
func TestPlantedHandover(t *testing.T) {
	t.Parallel()
	s := sign(t, t.TempDir(), nil)
	cp, _ := s.next()
	text := strings.Replace(string(cp.Signed), "\n1\n", "\n2\n", 1)
	if _, err := s.keys.Edit(t.Context(), func(r *ledger.Ring) error { r.Keys[0].Handover = text; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Sign(t.Context()); err == nil || !strings.Contains(err.Error(), "handover to key") {
		t.Errorf("%v", err)
	}
}

// Before each of the steps of a rotation the process may die: whatever of the
// two files was written, a later start goes on to one signing key, the log tells
// of both keys, some checkpoint that both signed is at hand, and no size is
// signed with two roots.
func TestKilledAtEachStepOfARotation(t *testing.T) {
	t.Parallel()
	files := []string{"keys", filepath.Join("spool", "tree")}
	for step := range 4 {
		dir := t.TempDir()
		s := sign(t, dir, nil)
		first, _ := s.next()
		old := s.ring().Keys[0]
		made, err := s.keys.Add(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := make(map[string][]byte)
		for _, f := range files {
			if before[f], err = os.ReadFile(filepath.Join(dir, f)); err != nil {
				t.Fatal(err)
			}
		}
		both, _ := s.next()
		s.spool.Close()
		// The order is: event, tree, keys. The tree may be kept and the keys
		// not; that neither is, is a kill before the tree; that only the keys
		// are does not happen, and does no harm.
		for i, f := range files {
			if step&(1<<i) != 0 {
				if err := os.WriteFile(filepath.Join(dir, f), before[f], 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		s = sign(t, dir, nil)
		s.now = s.now.Add(time.Hour)
		s.next()
		fill(t, s.spool, 0, 1)
		last, by := s.next()
		ring := s.ring()
		if len(ring.Signing()) != 1 || len(by) != 1 || by[0] != made.ID() || ring.Keys[0].Secret != "" {
			t.Errorf("step %d: signed by %v", step, by)
		}
		roots := map[uint64]ledger.Hash{first.Size: first.Root}
		if step&1 == 0 {
			roots[both.Size] = both.Root // it may have been shipped
		}
		vouched := false
		for _, cp := range s.Pending(1 << 60) {
			if was, twice := roots[cp.Size]; twice && was != cp.Root {
				t.Errorf("step %d: two roots over %d events", step, cp.Size)
			}
			roots[cp.Size] = cp.Root
			who := ledger.Signers(cp.Signed)
			vouched = vouched || slices.Contains(who, old.ID()) && slices.Contains(who, made.ID())
		}
		if !vouched || last.Size <= both.Size {
			t.Errorf("step %d: vouched %v, %d events after %d", step, vouched, last.Size, both.Size)
		}
		if got := strings.Join(s.changes(), " "); !strings.HasPrefix(got, "key.added key.added") {
			t.Errorf("step %d: told %s", step, got)
		}
		s.spool.Close()
	}
}

// A disk that takes no events, or no tree, has nothing signed, and later all is.
func TestSigningOnAFailingDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := sign(t, dir, nil)
	s.spool.Close()
	d := &faulty{disk: osDisk{}}
	cfg := config(t, filepath.Join(dir, "spool"))
	cfg.disk = d
	s.spool = open(t, cfg)
	s.cfg.Spool = s.spool
	d.fail("write")
	if err := s.Sign(t.Context()); !errors.Is(err, syscall.ENOSPC) || s.Status().Size != 0 || s.Status().Err == "" {
		t.Fatalf("no room for the key's event: %v", err)
	}
	d.fail("")
	for s.Sign(t.Context()) != nil {
		time.Sleep(time.Millisecond) // the spool mends itself
	}
	if n := len(s.ring().Keys); n != 1 {
		t.Errorf("%d keys were made", n)
	}
	first := s.Status().Size
	fill(t, s.spool, 0, 3)
	// No tree, no signature: after a power cut the log could fork.
	slots := s.spool.treeFile.slots
	broken, _, err := OpenSlots(filepath.Join(t.TempDir(), "tree"), SlotHeader+16)
	if err != nil {
		t.Fatal(err)
	}
	s.spool.treeFile.slots = broken
	for range 2 {
		if err := s.Sign(t.Context()); err == nil || s.Status().Size != first {
			t.Fatalf("signed what was not kept: %v", err)
		}
	}
	s.spool.treeFile.slots = slots
	cp, _ := s.next()
	var prefixes []byte
	for _, cp := range s.Pending(1 << 60) {
		prefixes = append(prefixes, cp.Prefixes...)
	}
	if cp.Size != first+3 || len(prefixes) != int(cp.Size)*PrefixSize || bytes.Equal(prefixes[:PrefixSize], prefixes[PrefixSize:2*PrefixSize]) {
		t.Errorf("%d events, %d bytes of prefixes", cp.Size, len(prefixes))
	}
}
