package suggest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
)

// trail is an audit trail in memory; policies/backtest tests the real one.
type trail []clickhouse.Row

func (tr trail) Census(context.Context, clickhouse.Filter) ([]clickhouse.Tally, error) {
	return nil, nil
}

func (tr trail) Spans(_ context.Context, f clickhouse.Filter, _ uint64) ([]clickhouse.Span, error) {
	var list []clickhouse.Span
	for day := f.Since; day.Before(f.Until); day = day.AddDate(0, 0, 1) {
		list = append(list, clickhouse.Span{Since: day, Until: day.AddDate(0, 0, 1), Calls: 1})
	}
	return list, nil
}

func (tr trail) Replay(_ context.Context, what clickhouse.Replay, each func(*clickhouse.Group) error) error {
	for _, row := range tr {
		if row.Time.Before(what.Since) || !row.Time.Before(what.Until) || what.Decision == "allowed" && !row.Allowed {
			continue
		}
		row.Groups = slices.Clone(row.Groups)
		if err := each(&clickhouse.Group{Row: row, Calls: 1, Examples: []clickhouse.Example{{ID: row.CallID, Time: row.Time}}}); err != nil {
			return err
		}
	}
	return nil
}

// start is the first day of the tests' trails.
var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func window() clickhouse.Filter {
	return clickhouse.Filter{Since: start, Until: start.AddDate(0, 0, 10)}
}

// made is a call of the tests.
type made struct {
	who        string   // subject, of issuer https://idp unless it says "issuer|subject"
	groups     []string //
	actors     []string // "issuer|subject"
	connection string   // default crm
	function   string   // default refunds.create
	args       string   // default {}
	denied     bool
	held       bool
	raw        bool // recorded as a protocol is whose arguments are kept as they came
}

func (m made) call(t testing.TB, n int) *call.Call {
	t.Helper()
	c := &call.Call{Time: start.Add(time.Duration(n) * 7 * time.Minute), Connection: m.connection, Protocol: call.HTTP, Function: m.function, ArgsJSON: json.RawMessage(m.args),
		Identity: call.Identity{Issuer: "https://idp", Subject: m.who, Groups: m.groups, Kind: call.Human}}
	if issuer, subject, both := strings.Cut(m.who, "|"); both {
		c.Identity.Issuer, c.Identity.Subject = issuer, subject
	}
	for _, a := range m.actors {
		issuer, subject, _ := strings.Cut(a, "|")
		c.Identity.Actors = append(c.Identity.Actors, call.Actor{Issuer: issuer, Subject: subject})
	}
	if c.Connection == "" {
		c.Connection = "crm"
	}
	if c.Function == "" {
		c.Function = "refunds.create"
	}
	if m.args == "" {
		c.ArgsJSON = json.RawMessage("{}")
	}
	var err error
	if c.ID, err = call.NewID(); err != nil {
		t.Fatal(err)
	}
	return c
}

// record makes a trail of calls.
func record(t testing.TB, calls ...made) trail {
	t.Helper()
	r, err := redact.New(make([]byte, redact.MinKey))
	if err != nil {
		t.Fatal(err)
	}
	var out trail
	for i, m := range calls {
		c := m.call(t, i)
		decision := call.Decision{Outcome: call.Allow, Rule: "all", Reason: call.ReasonRule}
		switch {
		case m.denied:
			decision = call.Decision{Outcome: call.Deny, Reason: call.ReasonNoRule}
		case m.held:
			decision = call.Decision{Outcome: call.HoldAllow, Rule: "ask", Reason: call.ReasonApproved}
		}
		args := c.ArgsJSON
		if !m.raw {
			args = r.Arguments(args, redact.Hidden{})
		}
		row := clickhouse.NewRow(&call.Event{Kind: call.Decided, CallID: c.ID, Time: c.Time, Decided: &call.DecidedEvent{Identity: c.Identity, Connection: c.Connection,
			Protocol: c.Protocol, Function: c.Function, ArgsJSON: args, Decision: decision, Started: c.Time}}, "s", uint64(i))
		out = append(out, *row)
	}
	return out
}

// times repeats a call; %d in its arguments counts.
func times(n int, m made) []made {
	var list []made
	for i := range n {
		one := m
		if strings.Contains(m.args, "%d") {
			one.args = fmt.Sprintf(m.args, i)
		}
		list = append(list, one)
	}
	return list
}
