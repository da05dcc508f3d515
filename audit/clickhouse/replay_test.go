package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

func TestReplay(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	rig := ship(t, db, newSpool(t, t.TempDir()), time.Millisecond)
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	// Callers choose names of functions.
	hostile := []string{"plain", "it's", `back\slash`, "question? mark?", "') OR 1=1 --", "{x:String}", "$1 @name", "new\nline", ""}
	for i := range 3 * len(hostile) {
		e := decided(t)
		e.Decided.Function, e.Decided.Started = hostile[i%len(hostile)], at.Add(time.Duration(i)*time.Hour)
		e.Decided.Decision = call.Decision{Outcome: call.Allow, Rule: "r", Reason: call.ReasonRule}
		if i%3 == 0 {
			e.Decided.Decision.Reason, e.Decided.Decision.Outcome = call.ReasonInvalidToken, call.Deny
		}
		rig.append(e)
	}
	eventually(t, db, fmt.Sprint(3*len(hostile)), "SELECT toString(count()) FROM calls")
	all := Filter{Since: at, Until: at.Add(100 * time.Hour)}
	rows := map[call.ID]Row{} // by call
	read := func(what Replay) (functions []string, calls uint64) {
		t.Helper()
		err := db.Replay(context.Background(), what, func(g *Group) error {
			functions, calls = append(functions, g.Row.Function), calls+g.Calls
			if !slices.IsSortedFunc(g.Examples, func(a, b Example) int { return b.Time.Compare(a.Time) }) || len(g.Examples) == 0 {
				t.Errorf("examples %v", g.Examples)
			}
			for _, e := range g.Examples {
				row, ok := rows[e.ID]
				if !ok {
					var err error
					if row, err = db.Call(context.Background(), e.ID); err != nil {
						t.Fatal(err)
					}
					rows[e.ID] = row
				}
				if row.Function != g.Row.Function || !row.Time.Equal(e.Time) {
					t.Errorf("example %v is of %q at %s", e, row.Function, row.Time)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(functions)
		return functions, calls
	}
	columns := []string{"call_id", "time", "connection", "function"}
	if _, n := read(Replay{Filter: all, Columns: columns}); n != uint64(3*len(hostile)) {
		t.Errorf("%d calls in all", n)
	}
	if _, n := read(Replay{Filter: all, Columns: columns, Reasons: []string{"rule"}}); n != uint64(2*len(hostile)) {
		t.Errorf("%d calls that a rule decided", n)
	}
	for _, f := range hostile {
		only := []FunctionName{{"crm", f}, {"crm", "none"}}
		if got, n := read(Replay{Filter: all, Columns: columns, Only: only}); n != 3 || got[0] != f || got[2] != f {
			t.Errorf("only %q: %q", f, got)
		}
		if got, n := read(Replay{Filter: all, Columns: columns, Except: only}); n != uint64(3*len(hostile)-3) || slices.Contains(got, f) {
			t.Errorf("all but %q: %q", f, got)
		}
		if got, n := read(Replay{Filter: all, Columns: []string{"connection", "function"}, Grouped: true, Examples: 2, Only: only}); n != 3 || len(got) != 1 {
			t.Errorf("%q grouped: %q", f, got)
		}
	}
	if got, n := read(Replay{Filter: all, Columns: []string{"connection", "function", "groups", "actors.issuer", "approval_id"}, Grouped: true}); n != uint64(3*len(hostile)) || len(got) != len(hostile) {
		t.Errorf("%d calls in %d groups", n, len(got))
	}

	census, err := db.Census(context.Background(), all)
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for _, c := range census {
		total += c.Calls
	}
	if total != uint64(3*len(hostile)) || len(census) < len(hostile) {
		t.Errorf("census %+v", census)
	}
	for _, about := range []uint64{1, 5, 1000} {
		spans, err := db.Spans(context.Background(), Filter{Since: at.Add(30 * time.Minute), Until: at.Add(20*time.Hour + time.Minute)}, about)
		if err != nil {
			t.Fatal(err)
		}
		n := uint64(0)
		for i, s := range spans {
			if _, calls := read(Replay{Filter: Filter{Since: s.Since, Until: s.Until}, Columns: columns}); calls != s.Calls || i > 0 && s.Since.Before(spans[i-1].Until) {
				t.Errorf("span %+v has %d calls", s, calls)
			}
			n += s.Calls
		}
		if n != 20 {
			t.Errorf("%d calls in spans of about %d: %+v", n, about, spans)
		}
	}

	if err := db.Replay(context.Background(), Replay{Filter: all, Columns: []string{"nonsense"}}, nil); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a column that is not: %v", err)
	}
	stop := errors.New("enough")
	if err := db.Replay(context.Background(), Replay{Filter: all, Columns: columns}, func(*Group) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped with %v", err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := db.Replay(gone, Replay{Filter: all, Columns: columns}, func(*Group) error { return nil }); err == nil {
		t.Error("a context that had ended")
	}
}
