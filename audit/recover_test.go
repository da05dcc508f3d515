package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// layout is a segment built by hand: the records of each batch, and where each
// record starts and ends.
type layout struct {
	data  []byte
	spans [][2]int
	batch []int // of each record
}

// build lays out batches of the given sizes as the writer does, in the
// segment with base 0 of the spool in dir.
func build(t *testing.T, s *Spool, sizes ...int) layout {
	t.Helper()
	l := layout{data: segmentHead(s.id, 0)}
	n := 0
	for k, size := range sizes {
		scratch := &Spool{cfg: s.cfg, codec: s.codec, pending: newBatch(nil), wake: make(chan struct{}, 1), seed: seed(s.id, 0)}
		scratch.bufs.New = func() any { return new(bytes.Buffer) }
		first := n
		for range size {
			e := decided(t, body(n))
			at := len(scratch.pending.buf)
			if _, err := scratch.add(context.Background(), &e); err != nil {
				t.Fatal(err)
			}
			l.spans = append(l.spans, [2]int{len(l.data) + at, len(l.data) + len(scratch.pending.buf)})
			l.batch = append(l.batch, k)
			n++
		}
		scratch.number(scratch.pending, uint64(first))
		l.data = append(l.data, scratch.pending.buf...)
	}
	return l
}

// reopen puts data in the place of the spool's only segment and opens it.
func reopen(t *testing.T, dir string, data []byte) (*Spool, string) {
	t.Helper()
	list, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range list {
		if err := os.Remove(segmentPath(dir, g.base)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "tree")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(segmentPath(dir, 0), data, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg := config(t, dir)
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, cfg)
	return s, log.String()
}

// A batch is written in one go, and after a power cut any part of it may be
// missing. Nothing that was acknowledged before may go with it.
func TestTornTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	l := build(t, s, 7, 1, 5, 6) // the last six were being written
	s.Close()
	start, end := l.spans[13][0], len(l.data)
	for range 40 {
		torn := append(bytes.Clone(l.data), make([]byte, 4096)...) // space set aside
		for range 1 + rand.N(3) {
			from := start + rand.N(end-start)
			hole := torn[from : from+1+rand.N(end-from)]
			if rand.N(2) == 0 {
				clear(hole)
				continue
			}
			for i := range hole {
				hole[i] = byte(rand.N(256))
			}
		}
		s, _ := reopen(t, dir, torn)
		got, damage := contents(t, s, 0)
		if len(damage) > 0 {
			t.Fatalf("a torn write was called damage: %v", damage)
		}
		if len(got) < 13 {
			t.Fatalf("%d records left of 13 that were acknowledged", len(got))
		}
		want(t, got, 0, len(got))
		fill(t, s, len(got), len(got)+3)
		got, _ = contents(t, s, 0)
		want(t, got, 0, len(got))
		s.Close()
	}
}

func TestTornTailIsLogged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	l := build(t, s, 3, 2)
	s.Close()
	_, log := reopen(t, dir, l.data[:l.spans[4][0]+30])
	if !strings.Contains(log, "unfinished write") || !strings.Contains(log, "bytes=30") {
		t.Errorf("log: %s", log)
	}
}

// Damage to acknowledged records is told with file and offset, costs only the
// records that it hit, and leaves the file for whoever looks into it.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	l := build(t, s, 7, 1, 5, 6)
	s.Close()
	for name, c := range map[string]struct{ record, offset int }{
		"payload":           {4, 100},
		"length":            {4, 0},
		"index":             {4, 9},
		"header checksum":   {4, 21},
		"first record":      {0, 30},
		"a batch of itself": {7, 40},
		"end of a batch":    {12, 40},
	} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Clone(l.data)
			data[l.spans[c.record][0]+c.offset] ^= 0x40
			s, log := reopen(t, dir, data)
			defer s.Close()
			got, damage := contents(t, s, 0)
			if len(damage) != 1 || damage[0].First != uint64(c.record) || damage[0].Last != uint64(c.record) ||
				damage[0].Offset != int64(l.spans[c.record][0]) || damage[0].File != segmentPath(dir, 0) {
				t.Fatalf("damage: %v", damage)
			}
			if !strings.Contains(log, "damaged") || !strings.Contains(log, segmentPath(dir, 0)) {
				t.Errorf("log: %s", log)
			}
			want(t, got[:c.record], 0, c.record)
			want(t, got[c.record:], c.record+1, 19)
			fill(t, s, 19, 22)
			got, _ = contents(t, s, uint64(c.record)) // a reader that starts at the damage
			want(t, got, c.record+1, 22)
			fill(t, s, 22, 23)
			if err := s.DeleteBefore(23); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(segmentPath(dir, 0) + damagedSuffix); err != nil {
				t.Errorf("the damaged file is gone: %v", err)
			}
			os.Remove(segmentPath(dir, 0) + damagedSuffix)
		})
	}
}

// A record that a caller hides in a body must not be taken for one of ours
// when the reader looks for the next whole one.
func TestPlantedRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	other := open(t, config(t, t.TempDir()))
	planted := build(t, other, 9).data
	payload := bytes.Repeat([]byte{0}, 8-segmentHeader%8)
	for shift := range 8 { // at whatever alignment
		payload = append(payload, make([]byte, shift)...)
		payload = append(payload, planted...)
	}
	s.Close()
	l := build(t, s, 1)
	scratch := &Spool{cfg: s.cfg, codec: s.codec, pending: newBatch(nil), wake: make(chan struct{}, 1), seed: seed(s.id, 0)}
	scratch.bufs.New = func() any { return new(bytes.Buffer) }
	e := decided(t, payload)
	if _, err := scratch.add(context.Background(), &e); err != nil {
		t.Fatal(err)
	}
	scratch.number(scratch.pending, 1)
	data := append(l.data, scratch.pending.buf...)
	data[len(l.data)+60] ^= 1 // now its record is unreadable and the reader searches through the body
	again, _ := reopen(t, dir, data)
	got, damage := contents(t, again, 0)
	if len(got) != 1 || len(damage) != 0 || again.Status().Durable != 1 {
		t.Errorf("%d records, damage %v", len(got), damage)
	}
}

func TestMissingSegmentIsDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := config(t, dir)
	cfg.SegmentBytes = 1 << 14
	s := open(t, cfg)
	fill(t, s, 0, 200)
	second, third := s.sealed[1], s.sealed[2]
	s.Close()
	if err := os.Remove(segmentPath(dir, second.base)); err != nil {
		t.Fatal(err)
	}
	s = open(t, config(t, dir))
	got, damage := contents(t, s, 0)
	if len(damage) != 1 || damage[0].First != second.base || damage[0].Last != third.base-1 {
		t.Errorf("damage: %v", damage)
	}
	if len(got) != 200-int(third.base-second.base) {
		t.Errorf("%d records", len(got))
	}
}

func TestIDIsNeeded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, config(t, dir))
	fill(t, s, 0, 2)
	s.Close()
	if err := os.Remove(dir + "/" + idFile); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config(t, dir)); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("without its id: %v", err)
	}
	// Without any segment it is a new log with a new id: an index of the old
	// one must not name another record.
	list, _ := segments(dir)
	for _, g := range list {
		os.Remove(segmentPath(dir, g.base))
	}
	if again := open(t, config(t, dir)); again.ID() == s.ID() {
		t.Error("an emptied spool kept its id")
	}
}

const childDir = "CALLGATE_TEST_SPOOL_CHILD"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled appends from many goroutines and prints the number of each
// event once it is acknowledged.
func writeUntilKilled(dir string) {
	t := &testing.B{}
	s, err := Open(config(t, dir))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	base := int(s.Status().Durable)
	var mu sync.Mutex
	for w := range 16 {
		go func() {
			for i := base*1000 + w; ; i += 16 {
				if err := s.Append(context.Background(), decided(t, body(i))); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(i)
				mu.Unlock()
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin) // ends with the parent
	os.Exit(0)
}

// After kill -9 at any moment every acknowledged event is there, once.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]bool{}
	for range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := rand.N(400)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			i, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(lines.Text())
			}
			acked[string(body(i))] = true
			if n == stop {
				time.Sleep(rand.N(3 * time.Millisecond)) // not only at the end of a line
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		stdin.Close()
	}
	s := open(t, config(t, dir))
	got, damage := contents(t, s, 0)
	if len(damage) > 0 {
		t.Errorf("damage: %v", damage)
	}
	seen := map[string]bool{}
	for _, b := range got {
		if seen[b] {
			t.Errorf("%.9s is there twice", b)
		}
		seen[b] = true
	}
	for b := range acked {
		if !seen[b] {
			t.Errorf("%.9s was acknowledged and is lost", b)
		}
	}
	t.Logf("%d acknowledged, %d in the log", len(acked), len(got))
}
