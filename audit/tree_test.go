package audit

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/call"
)

// grown is the tree over what the spool holds, made anew.
func grown(t *testing.T, s *Spool) *ledger.Tree {
	t.Helper()
	tree := ledger.NewTree()
	r := s.NewReader(0)
	defer r.Close()
	records, damage, err := r.Read(1<<20, 1<<30)
	if err != nil || len(damage) > 0 {
		t.Fatal(err, damage)
	}
	for _, rec := range records {
		tree.Append(ledger.LeafHash(rec.Leaf))
	}
	return tree
}

func same(t *testing.T, got, want *ledger.Tree) {
	t.Helper()
	if got.Size() != want.Size() || got.Root() != want.Root() {
		t.Fatalf("the tree has %d leaves and root %x, want %d and %x", got.Size(), got.Root(), want.Size(), want.Root())
	}
}

// The tree is the one over all records, whether they were appended by this
// process, were there when it began, or came after the tree was kept.
func TestTreeFollowsTheLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	fill(t, s, 0, 7)
	same(t, s.Tree(), grown(t, s))
	if err := s.Keep(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 7, 20)
	want := grown(t, s)
	s.Close()
	for name, tree := range map[string][]byte{"none kept": nil, "kept at 7": kept} {
		if err := os.WriteFile(filepath.Join(dir, "tree"), tree, 0o600); err != nil {
			t.Fatal(name, err)
		}
		s := open(t, config(t, dir))
		same(t, s.Tree(), want)
		s.Close()
	}
}

// A disk that lost the end of the log must not make an index name two records:
// somebody may have been told of the lost ones.
func TestLogGoesOnBehindALostEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	l := build(t, s, 4, 6)
	s.Close()
	s, _ = reopen(t, dir, l.data)
	tree := s.Tree()
	s.Close() // keeps the tree of ten
	if err := os.Remove(segmentPath(dir, 10)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(segmentPath(dir, 0), int64(l.spans[6][0]+9)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg := config(t, dir)
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	s = open(t, cfg)
	defer s.Close()
	if !strings.Contains(log.String(), "first=6 last=9") {
		t.Errorf("the loss is not told: %s", log.String())
	}
	same(t, s.Tree(), tree)
	fill(t, s, 10, 12)
	r := s.NewReader(0)
	defer r.Close()
	records, damage, err := r.Read(100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var indexes []uint64
	for _, rec := range records {
		indexes = append(indexes, rec.Index)
		if rec.Index >= 10 {
			tree.Append(ledger.LeafHash(rec.Leaf))
		}
	}
	if len(records) != 8 || indexes[5] != 5 || indexes[6] != 10 || len(damage) != 1 || damage[0].First != 6 || damage[0].Last != 9 {
		t.Errorf("read %d, damage %v", indexes, damage)
	}
	same(t, s.Tree(), tree)
}

func TestTreeMustBeThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := config(t, dir)
	cfg.SegmentBytes = 4 << 10
	s := open(t, cfg)
	fill(t, s, 0, 50)
	if err := s.DeleteBefore(40); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.Remove(filepath.Join(dir, "tree")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "tree is missing") {
		t.Errorf("without its tree: %v", err)
	}
}

// What was recorded is what was committed to, and nothing else is.
func TestContentIsCommittedTo(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, t.TempDir()))
	defer s.Close()
	answered := call.Event{Kind: call.Answered, CallID: call.ID{1}, Answered: &call.AnsweredEvent{
		RPCStatus: &call.RPCStatus{Code: 5, Message: "no such thing"},
		Body:      call.NewBody([]byte("a long response"), 4, "text/plain", "")}}
	e := decided(t, []byte("the body"))
	e.Decided.ArgsJSON, e.Decided.Path = []byte(`{"a":1}`), "/x?y=z"
	for _, e := range []call.Event{e, answered} {
		if err := s.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	r := s.NewReader(0)
	defer r.Close()
	records, _, err := r.Read(2, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, edits := range [][]func(*call.Event){{
		func(e *call.Event) { e.Decided.ArgsJSON = []byte(`{"a":2}`) },
		func(e *call.Event) { e.Decided.Path = "/x" },
		func(e *call.Event) { e.Decided.Body.Head = []byte("The body") },
		func(e *call.Event) { e.Decided.Body.Head = nil },
		func(e *call.Event) { e.Decided.Body.SHA256[0]++ },
		func(e *call.Event) { e.Salt[0]++ },
	}, {
		func(e *call.Event) { e.Answered.RPCStatus.Message = "" },
		func(e *call.Event) { e.Answered.Body.Head = []byte("x") },
		func(e *call.Event) { e.Answered.Body.Tail = nil },
	}} {
		read := func() call.Event {
			e, err := records[i].Event(s.Codec())
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		e := read()
		if err := CheckContent(&e); err != nil || e.Salt == [16]byte{} {
			t.Errorf("%s as recorded: %v", e.Kind, err)
		}
		for n, edit := range edits {
			e := read()
			edit(&e)
			if err := CheckContent(&e); !errors.Is(err, ErrContent) {
				t.Errorf("%s, edit %d: %v", e.Kind, n, err)
			}
		}
		// The leaf alone tells nothing of the content, and no two have the
		// same commitment though their content is the same.
		if bytes.Contains(records[i].Leaf, []byte("no such")) || bytes.Contains(records[i].Leaf, []byte("y=z")) {
			t.Errorf("%s: content stands in the leaf", e.Kind)
		}
	}
	again, err := Seal(e)
	if err != nil {
		t.Fatal(err)
	}
	first, err := records[0].Event(s.Codec())
	if err != nil {
		t.Fatal(err)
	}
	if again.Decided.Content == first.Decided.Content {
		t.Error("equal content has equal commitments")
	}
}
