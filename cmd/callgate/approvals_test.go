package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
)

func TestClock(t *testing.T) {
	now := time.Date(2026, 11, 26, 17, 5, 0, 0, time.Local)
	for want, at := range map[string]time.Time{
		"17:06:00": now.Add(time.Minute), "00:00:00": time.Date(2026, 11, 26, 0, 0, 0, 0, time.Local), "2026-11-27 17:05:00": now.AddDate(0, 0, 1),
		"2025-11-26 17:05:00": now.AddDate(-1, 0, 0), "2026-11-25 23:59:59": time.Date(2026, 11, 25, 23, 59, 59, 0, time.Local),
	} {
		if got := clock(at.UTC(), now); got != want {
			t.Errorf("%s: %s", at, got)
		}
	}
}

// What is shown of an approval says who decided it, whom it waits for, and why a
// body is not there.
func TestShownApproval(t *testing.T) {
	yes, no := console.Decided{By: "i|ann", Approved: true}, console.Decided{By: "i|bob"}
	open := console.Approval{ID: "apr_1", State: "open", Stages: 1, Missing: 1, Approvers: call.Approvers{Groups: []string{"leads"}}, Body: "{}"}
	refused := console.Approval{ID: "apr_1", State: "refused", DecidedBy: "i|ann, i|bob", Decisions: []console.Decided{yes, no}, BodyForm: "hidden", BodyLength: 80}
	used := console.Approval{ID: "apr_1", State: "used", DecidedBy: "i|ann, i|carl", Decisions: []console.Decided{yes, {By: "i|carl", Approved: true}}}
	for name, c := range map[string]struct {
		a             console.Approval
		by            string
		waits, hidden bool
	}{"open": {open, "", true, false}, "refused": {refused, "i|bob", false, true}, "used": {used, "i|ann, i|carl", false, false}} {
		var text strings.Builder
		for _, row := range shown(c.a) {
			text.WriteString(strings.Join(row, ": ") + "\n")
		}
		if got := decidedBy(c.a); got != c.by || strings.Contains(text.String(), "waits for: 1 of leads") != c.waits || strings.Contains(text.String(), "waits for") != c.waits ||
			strings.Contains(text.String(), "80 bytes that are not shown") != c.hidden {
			t.Errorf("%s: by %s: %s", name, got, text.String())
		}
	}
}

// Texts of several lines are shown as such, and nothing of them as a row of the
// table's own.
func TestShownLines(t *testing.T) {
	a := console.Approval{ID: "apr_1", State: "open", Arguments: json.RawMessage(`{"a":1,"b":["x"]}`), Body: "{\n\t\"a\": 1,\nrule            none\n}\n", Rule: "big",
		Authority: "crm:8080", Type: "application/json", BodyLength: 3, BodySHA256: "0123"}
	var out strings.Builder
	if err := table(&out, shown(a)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nhost           crm:8080\ntype           application/json\n", "\nSHA-256        0123\n", "\narguments      {\n                 \"a\": 1,\n                 \"b\": [\n", "\nbody           {\n               \\u{0009}\"a\": 1,\n               rule            none\n               }\n", "\nrule           big\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\uFFFD") || strings.Contains(out.String(), "\nrule            none") {
		t.Error(out.String())
	}
}
