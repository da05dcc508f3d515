//go:build linux

package soak

import (
	"fmt"
	"io"
	"path"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// line is what came of one scenario.
type line struct {
	scenario string
	took     time.Duration
	finding  finding
	faults   int
	note     string
	good     bool
}

// table is printed at the end.
type table struct {
	mu    sync.Mutex
	lines []line
}

func (t *table) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "scenario\tduration\tanswered\tdecided\tallowed\trows\tunknown legs\tlost\tdoubled\tfaults\tverdict\t")
	for _, l := range t.lines {
		verdict := "FAILED"
		if l.good {
			verdict = "ok"
		}
		f := l.finding
		fmt.Fprintf(out, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", l.scenario, l.took.Round(100*time.Millisecond),
			f.answered, f.decided, f.allowed, f.rows, f.unknown, f.lost, f.doubled, l.faults, verdict)
	}
	_ = out.Flush() // to standard output
	for _, l := range t.lines {
		if l.note != "" {
			fmt.Fprintf(w, "%s: %s\n", l.scenario, l.note)
		}
	}
}

// trial is a scenario under way.
type trial struct {
	*testing.T
	w      *world
	began  time.Time
	before finding
	faults int
	note   string
}

// begin starts to count for a scenario.
func begin(t *testing.T, w *world) *trial {
	t.Helper()
	f, err := w.look(t.Context())
	if err != nil {
		f = new(finding) // no table yet
	}
	return &trial{T: t, w: w, began: time.Now(), before: *f}
}

// end looks at what came out and writes the scenario's line. Answered counts
// and their like are those since begin, errors those of the whole world.
func (tr *trial) end(least int) {
	tr.Helper()
	f := tr.w.settled(tr.T)
	for _, text := range f.texts {
		tr.Error(text)
	}
	if !f.fine() {
		tr.Errorf("%d lost, %d doubled, %d wrong", f.lost, f.doubled, f.wrong)
	}
	b := tr.before
	f.answered, f.decided, f.allowed = f.answered-b.answered, f.decided-b.decided, f.allowed-b.allowed
	f.rows, f.unknown = f.rows-b.rows, f.unknown-b.unknown
	if f.answered < least || f.allowed < least/2 {
		tr.Errorf("only %d calls were answered, and %d let through: no test; denied were %v", f.answered, f.allowed, tr.w.journal.denied)
	}
	lines.mu.Lock()
	defer lines.mu.Unlock()
	lines.lines = append(lines.lines, line{path.Base(tr.Name()), time.Since(tr.began), *f, tr.faults, tr.note, !tr.Failed()})
}
