//go:build linux

package soak

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// wound is one way to spoil the last segment of a spool. It returns which
// records it destroyed.
type wound struct {
	name string
	// shipped: ClickHouse has everything before. Otherwise it is away, and what
	// is destroyed is nowhere else.
	shipped bool
	// signed: the records are under a checkpoint before, which takes as long
	// as checkpoints are apart.
	signed bool
	// long: it is left to the long form, as much like another.
	long bool
	hurt func(f *os.File, records []placed) (destroyed []uint64, err error)
	// told is what the log must say, given the destroyed records.
	told func(destroyed []uint64) string
}

var unfinished = func([]uint64) string { return "dropped an unfinished write" }

var wounds = []wound{
	{name: "a torn write", told: unfinished, hurt: func(f *os.File, records []placed) ([]uint64, error) {
		garbage := make([]byte, 100+rand.N(1000))
		for i := range garbage {
			garbage[i] = byte(1 + rand.N(255))
		}
		_, err := f.WriteAt(garbage, records[len(records)-1].end)
		return nil, err
	}},
	{name: "a cut", long: true, told: unfinished, hurt: cut},
	{name: "a flipped byte in the middle", hurt: func(f *os.File, records []placed) ([]uint64, error) {
		return flip(f, records[len(records)/2])
	}, told: func(d []uint64) string { return fmt.Sprintf("first=%d last=%d", d[0], d[0]) }},
	{name: "a flipped byte at the end", long: true, told: unfinished, hurt: func(f *os.File, records []placed) ([]uint64, error) {
		return flip(f, records[len(records)-1])
	}},
	{name: "a cut behind what was shipped", shipped: true, hurt: cut, told: missing},
	{name: "a cut behind what was signed", signed: true, long: true, hurt: cut, told: missing},
}

func missing(d []uint64) string {
	return fmt.Sprintf("acknowledged records are lost\" first=%d last=%d", d[0], d[len(d)-1])
}

// cut takes away the last records but for some bytes of the first of them.
func cut(f *os.File, records []placed) (destroyed []uint64, err error) {
	gone := records[len(records)-1-rand.N(4):]
	for _, r := range gone {
		destroyed = append(destroyed, r.index)
	}
	return destroyed, f.Truncate(gone[0].begin + 1 + rand.N(gone[0].end-gone[0].begin-8))
}

// flip changes one byte of a record's payload.
func flip(f *os.File, r placed) ([]uint64, error) {
	at := r.begin + recordHeader + rand.N(r.end-r.begin-recordHeader-8)
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return nil, err
	}
	b[0] ^= 1 << rand.N(8)
	_, err := f.WriteAt(b[:], at)
	return []uint64{r.index}, err
}

// torn: the last segment is spoiled after a kill. The spool comes back to the
// last good event, says so, and loses nothing that was not destroyed.
func torn(t *testing.T) {
	w := newWorld(t, plan{env: []string{"CALLGATE_AUDIT_CLICKHOUSE_SETTLE_AFTER=500ms"}})
	tr := begin(t, w)
	destroyed := 0
	for until := time.Now().Add(set.time(0.08, 0)); ; {
		for _, wd := range wounds {
			if wd.long && !set.long {
				continue
			}
			destroyed += w.survive(tr, wd)
		}
		if time.Now().After(until) {
			break
		}
	}
	tr.note = fmt.Sprintf("%d records were destroyed and are excused, those that the spool could know of were reported", destroyed)
	tr.end(60)
}

// survive inflicts a wound and looks how the service does.
func (w *world) survive(tr *trial, wd wound) int {
	tr.Helper()
	t, ctx, s := tr.T, tr.Context(), w.services[0]
	if !wd.shipped {
		must(t, store.stop())
	}
	l := w.load(ctx, 4, 4*time.Millisecond, 200)
	l.last(t, 400*time.Millisecond, 30)
	l.stop()
	sleep(ctx, 200*time.Millisecond) // until Envoy has told how they ended
	if wd.shipped {
		w.settled(t)
	}
	if wd.signed {
		sleep(ctx, 12*time.Second)
	}
	must(t, s.kill())
	said := len(s.text(0))
	events, id := readSpool(t, s.spool)
	file, records := lastSegment(t, s.spool)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	gone, err := wd.hurt(f, records)
	must(t, err)
	must(t, f.Close())
	tr.faults++
	if !wd.shipped {
		w.excuse(id, gone, events)
		must(t, store.start(ctx))
	}
	must(t, s.again(ctx))
	l = w.load(ctx, 4, 4*time.Millisecond, 200)
	l.last(t, 200*time.Millisecond, 10)
	l.stop()
	f2 := w.settled(t)
	if !f2.fine() {
		t.Errorf("after %s: %s", wd.name, strings.Join(f2.texts, "\n"))
	}
	if want := wd.told(gone); !strings.Contains(s.text(said), want) {
		t.Errorf("after %s of records %v the log does not say %q:\n%s", wd.name, gone, want, s.text(said))
	}
	if wd.shipped {
		return 0
	}
	return len(gone)
}

// excuse notes what can't be anywhere since its record was destroyed.
func (w *world) excuse(spool string, gone []uint64, events map[uint64]call.Event) {
	if w.excusedEvents[spool] == nil {
		w.excusedEvents[spool] = map[uint64]bool{}
	}
	for _, i := range gone {
		w.excusedEvents[spool][i] = true
		switch e := events[i]; e.Kind {
		case call.Decided:
			w.excusedCalls[e.CallID.String()] = true
		case call.Answered:
			w.excusedCalls["answered "+e.CallID.String()] = true
		}
	}
}

// readSpool reads what a spool holds, from a copy: opening one changes it.
func readSpool(t *testing.T, dir string) (events map[uint64]call.Event, id string) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "spool")
	must(t, os.CopyFS(copied, os.DirFS(dir)))
	spool, err := audit.Open(audit.SpoolConfig{Dir: copied, MaxBytes: 1 << 40, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Metrics: audit.NewMetrics(prometheus.NewRegistry())})
	must(t, err)
	defer func() { must(t, spool.Close()) }()
	events = map[uint64]call.Event{}
	r := spool.NewReader(0)
	defer func() { must(t, r.Close()) }()
	for {
		list, _, err := r.Read(1000, 1<<20)
		must(t, err)
		for _, rec := range list {
			events[rec.Index], err = rec.Event(spool.Codec())
			must(t, err)
		}
		if len(list) == 0 {
			return events, spool.ID()
		}
	}
}

// placed is where a record lies in its segment.
type placed struct {
	index      uint64
	begin, end int64
}

// As the package comment of audit tells them.
const (
	segmentHeader = 64
	recordHeader  = 24
)

// lastSegment finds the last segment and its records.
func lastSegment(t *testing.T, dir string) (file string, records []placed) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	must(t, err)
	slices.Sort(files)
	if len(files) == 0 {
		t.Fatalf("no segment in %s", dir)
	}
	file = files[len(files)-1]
	data, err := os.ReadFile(file)
	must(t, err)
	for at := int64(segmentHeader); at+recordHeader <= int64(len(data)); {
		length := int64(binary.LittleEndian.Uint32(data[at:]))
		if length == 0 {
			break // space set aside
		}
		end := at + (recordHeader+length+7)&^7
		records = append(records, placed{binary.LittleEndian.Uint64(data[at+8:]), at, end})
		at = end
	}
	if len(records) < 20 {
		t.Fatalf("%s has only %d records: no test", file, len(records))
	}
	return file, records
}
