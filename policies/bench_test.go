package policies

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/callgate/callgate/call"
)

// ten are rules such as people write; none of the denials matches refund's call.
// Their expressions differ from connection to connection, as a hard case for memory.
func ten(conn string) []Rule {
	whens := []struct{ action, when string }{
		{Deny, `identity.kind == "agent" && call.args.amount > 10000`},
		{Deny, `call.args.query.lowerAscii().matches("drop\\s+table")`},
		{Deny, `!("support" in identity.groups) && call.method == "DELETE"`},
		{Deny, `call.function == "customers.delete"`},
		{Deny, `has(call.args.region) && call.args.region != "emea"`},
		{Deny, `call.body_size > 100000`},
		{Deny, `call.headers["x-team"] == "c"`},
		{Deny, `identity.claims.tier == "bronze"`},
		{Deny, `call.args.customer.vip == true && call.args.amount > 500`},
		{Allow, `identity.subject == "agent-7"`},
	}
	var rules []Rule
	for i, w := range whens {
		rules = append(rules, Rule{Name: fmt.Sprintf("%s-%d", conn, i), Connections: []string{conn}, Action: w.action, When: w.when + ` && call.session != "none-` + conn + `"`})
	}
	return rules
}

func benchCall() *call.Call {
	return refund(map[string]any{"amount": int64(150), "query": "select name from customers where id = 7", "region": "emea",
		"customer": map[string]any{"vip": false}})
}

func bench(b *testing.B, s *Set, c *call.Call) {
	if r := s.Decide(b.Context(), c); r.Action != call.ActionAllow {
		b.Fatalf("%+v", r)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(b.Context(), c)
	}
}

func BenchmarkDecide10(b *testing.B) { bench(b, compile(b, ten("crm")...), benchCall()) }

func BenchmarkDecide1(b *testing.B) {
	bench(b, compile(b, Rule{Name: "a", Action: Allow, When: `call.function == "refunds.create"`}), benchCall())
}

func BenchmarkDecide10000(b *testing.B) {
	var conns []Connection
	var rules []Rule
	for i := range 1000 {
		name := fmt.Sprintf("crm%d", i)
		conns = append(conns, Connection{Name: name})
		rules = append(rules, ten(name)...)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, err := Compile(rules, Config{Version: "v", Connections: conns})
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	c := benchCall()
	c.Connection = "crm500"
	bench(b, s, c)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
}
