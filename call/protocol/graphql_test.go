package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

func gqlPost(query string, more map[string]any) *call.Request {
	m := map[string]any{"query": query}
	for k, v := range more {
		m[k] = v
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return &call.Request{Method: "POST", Authority: "gate.test", Path: "/graphql", Body: body, Headers: call.Headers{{Name: "content-type", Value: "application/json"}}}
}

func TestGraphQL(t *testing.T) {
	p, err := New(Config{Protocol: call.GraphQL, GraphQL: GraphQL{MaxDepth: 4, MaxAliases: 2, MaxFields: 12}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		query string
		more  map[string]any
		want  string // function and the root's arguments
	}{
		{`{ user(id: 7) { name } }`, nil, `query user map[user:map[id:7]]`},
		{`mutation { deleteUser(id: "7") }`, nil, `mutation deleteUser map[deleteUser:map[id:7]]`},
		{`mutation { harmless: deleteUser(id: "7") }`, nil, `mutation deleteUser map[deleteUser:map[id:7]]`},
		{`query Q($id: ID = "d") { user(id: $id) { name } }`, nil, `query user map[user:map[id:d]]`},
		{`query Q($id: ID) { user(id: $id) { name } }`, map[string]any{"variables": map[string]any{"id": "x"}}, `query user map[user:map[id:x]]`},
		{`query A { a } query B { b }`, map[string]any{"operationName": "B"}, `query b map[b:map[]]`},
		{`{ ...F } fragment F on Query { user(id: 1) { ...G } } fragment G on User { name }`, nil, `query user map[user:map[id:1]]`},
		{`{ ... on Query { user(id: 1) { name } } }`, nil, `query user map[user:map[id:1]]`},
		{`mutation { deleteUser(id: 1) @skip(if: true) }`, nil, `mutation deleteUser map[deleteUser:map[id:1]]`},
		{`{ find(where: {a: [1, 2.5, true, null, RED], b: "x"}) }`, nil, `query find map[find:map[where:map[a:[1 2.5 true <nil> RED] b:x]]]`},
	} {
		inv, err := p.Parse(gqlPost(c.query, c.more))
		if got := fmt.Sprint(inv.Function, " ", inv.Args["arguments"]); err != nil || got != c.want {
			t.Errorf("%s: %s, %v\nwant %s", c.query, got, err, c.want)
		}
	}
	long := `{ a ` + strings.Repeat("{ a ", 10) + strings.Repeat("} ", 10) + "}"
	for what, req := range map[string]*call.Request{
		"two root fields":         gqlPost(`{ a b }`, nil),
		"the same one twice":      gqlPost(`{ a: user(id: 1) { n } b: user(id: 2) { n } }`, nil),
		"two by a fragment":       gqlPost(`{ a ...F } fragment F on Query { b }`, nil),
		"introspection":           gqlPost(`{ __schema { types { name } } }`, nil),
		"introspection, aliased":  gqlPost(`{ x: __type(name: "User") { name } }`, nil),
		"a subscription":          gqlPost(`subscription { a }`, nil),
		"too deep":                gqlPost(long, nil),
		"too deep by fragments":   gqlPost(`{ a { ...F } } fragment F on A { b { c { d { e } } } }`, nil),
		"a fragment in itself":    gqlPost(`{ a { ...F } } fragment F on A { ...F }`, nil),
		"fragments in each other": gqlPost(`{ a { ...F } } fragment F on A { ...G } fragment G on A { ...F }`, nil),
		"no such fragment":        gqlPost(`{ a { ...F } }`, nil),
		"an unused fragment":      gqlPost(`{ a } fragment F on A { b }`, nil),
		"a fragment twice":        gqlPost(`{ a { ...F } } fragment F on A { b } fragment F on A { c }`, nil),
		"aliases":                 gqlPost(`{ a { p: b q: b r: b } }`, nil),
		"fields":                  gqlPost(`{ a { `+strings.Repeat("b ", 20)+`} }`, nil),
		"several without a name":  gqlPost(`query A { a } query B { b }`, nil),
		"no such operation":       gqlPost(`query A { a }`, map[string]any{"operationName": "B"}),
		"two of one name":         gqlPost(`query A { a } mutation A { b }`, map[string]any{"operationName": "A"}),
		"a persisted query":       gqlPost("", map[string]any{"extensions": map[string]any{"persistedQuery": map[string]any{"sha256Hash": "x"}}}),
		"an unknown member":       gqlPost(`{ a }`, map[string]any{"id": "x"}),
		"a variable not declared": gqlPost(`{ a(x: $y) }`, nil),
		"an argument twice":       gqlPost(`{ a(x: 1, x: 2) }`, nil),
		"a huge number":           gqlPost(`{ a(x: 99999999999999999999999) }`, nil),
		"a directive":             gqlPost(`{ a { ...F @defer } } fragment F on A { b }`, nil),
		"syntax":                  gqlPost(`{ a `, nil),
		"nothing":                 gqlPost(``, nil),
		"variables that are none": gqlPost(`{ a }`, map[string]any{"variables": "x"}),
		"a batch":                 {Method: "POST", Authority: "g", Path: "/graphql", Body: []byte(`[{"query":"{ a }"}]`), Headers: call.Headers{{Name: "content-type", Value: "application/json"}}},
		"a query in the URL too":  {Method: "POST", Authority: "g", Path: "/graphql?query=%7Bb%7D", Body: []byte(`{"query":"{ a }"}`), Headers: call.Headers{{Name: "content-type", Value: "application/json"}}},
		"query twice":             {Method: "POST", Authority: "g", Path: "/graphql", Body: []byte(`{"query":"{ a }","query":"{ b }"}`), Headers: call.Headers{{Name: "content-type", Value: "application/json"}}},
		"a mutation by GET":       {Method: "GET", Authority: "g", Path: "/graphql?query=" + url.QueryEscape(`mutation{a}`)},
		"query twice by GET":      {Method: "GET", Authority: "g", Path: "/graphql?query=%7Ba%7D&query=%7Bb%7D"},
		"a form":                  {Method: "POST", Authority: "g", Path: "/graphql", Body: []byte(`query={a}`), Headers: call.Headers{{Name: "content-type", Value: "application/x-www-form-urlencoded"}}},
	} {
		inv, err := p.Parse(req)
		var known *Error
		if !errors.As(err, &known) || known.Reason != call.ReasonMalformedRequest || known.Message == "" {
			t.Errorf("%s: %+v, %v", what, inv, err)
		}
	}
	inv, err := p.Parse(&call.Request{Method: "GET", Authority: "g", Path: "/graphql?query=" + url.QueryEscape(`{user(id:1){name}}`)})
	if err != nil || inv.Function != "query user" {
		t.Errorf("by GET: %+v, %v", inv, err)
	}
	several, err := New(Config{Protocol: call.GraphQL, GraphQL: GraphQL{Several: true, Introspection: true}})
	if err != nil {
		t.Fatal(err)
	}
	if inv, err := several.Parse(gqlPost(`{ a { x } b __schema { types { name } } }`, nil)); err != nil || inv.Function != "query *" || len(inv.Args["fields"].([]any)) != 3 {
		t.Errorf("several: %+v, %v", inv, err)
	}
	d := Deny(call.GraphQL, nil, nil, call.ID{}, call.Decision{Reason: call.ReasonRule, Message: "no"})
	if d.Status != 200 || !strings.HasPrefix(string(d.Body), `{"errors":[{"message":"no","extensions":{`) {
		t.Errorf("%d %s", d.Status, d.Body)
	}
}

func TestSQLBodies(t *testing.T) {
	p, err := New(Config{Protocol: call.SQL})
	if err != nil {
		t.Fatal(err)
	}
	post := func(body, path, media string) *call.Request {
		return &call.Request{Method: "POST", Authority: "g", Path: path, Body: []byte(body), Headers: call.Headers{{Name: "content-type", Value: media}}}
	}
	for body, want := range map[string]string{"select a from t": "select", "drop table t": "ddl", "select 1; select 2": "multiple", "delete from t where a = 1": "delete"} {
		inv, err := p.Parse(post(body, "/?database=x", "text/plain"))
		if err != nil || inv.Function != want || inv.Args["query"] != body {
			t.Errorf("%s: %+v, %v", body, inv, err)
		}
	}
	for what, req := range map[string]*call.Request{
		"no SQL":                post("hello", "/", "text/plain"),
		"nothing":               post("", "/", "text/plain"),
		"SQL in the URL":        post(" limit 1", "/?query=select+1", "text/plain"),
		"SQL in the URL, QUERY": post(" limit 1", "/?QUERY=select+1", "text/plain"),
		"JSON":                  post(`{"query":"select 1"}`, "/", "application/json"),
		"what differs":          post("select 1 /*!; drop table x */", "/", "text/plain"),
	} {
		if inv, err := p.Parse(req); err == nil {
			t.Errorf("%s: %+v", what, inv)
		}
	}
}

func FuzzGraphQL(f *testing.F) {
	f.Add(`{ user(id: 7) { name } }`, "")
	f.Add(`query A($x: [Int!] = [1]) { a(x: $x) { ...F @skip(if: true) } } fragment F on A { b }`, "A")
	p, err := New(Config{Protocol: call.GraphQL, GraphQL: GraphQL{Several: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query, operation string) {
		inv, err := p.Parse(gqlPost(query, map[string]any{"operationName": operation}))
		if err == nil && (inv.Function == "" || !json.Valid(inv.ArgsJSON)) {
			t.Errorf("%q: %+v", query, inv)
		}
	})
}

func TestGraphQLAliases(t *testing.T) {
	p, err := New(Config{Protocol: call.GraphQL})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := p.Parse(gqlPost(`{ c: customer { n: number ...f same: same } } fragment f on C { n: name x: card { y: z } }`, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"c": {"customer"}, "n": {"number", "name"}, "x": {"card"}, "y": {"z"}}
	if !reflect.DeepEqual(inv.Aliases, want) {
		t.Errorf("%v, want %v", inv.Aliases, want)
	}
}
