package mask

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// mustCompile compiles a spec that the test knows to be right.
func mustCompile(t testing.TB, spec Spec) *Masker {
	t.Helper()
	m, err := Compile(spec, Options{HashKey: []byte("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// detecting returns a masker with nothing but detectors.
func detecting(t testing.TB, names ...string) *Masker {
	t.Helper()
	return mustCompile(t, Spec{Rules: []Rule{{Name: "r", Detect: names}}})
}

func maskJSON(t testing.TB, m *Masker, in string) (string, []Finding) {
	t.Helper()
	out, f, err := m.JSON([]byte(in))
	if err != nil {
		t.Fatalf("%s: %v", in, err)
	}
	return string(out), f
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		spec Spec
		want string
	}{
		{"no name", Spec{Rules: []Rule{{Keys: []string{"a"}}}}, "has no name"},
		{"empty", Spec{Rules: []Rule{{Name: "x"}}}, `mask rule "x": has no paths, keys or detect`},
		{"detector", Spec{Rules: []Rule{{Name: "x", Detect: []string{"cards"}}}}, `unknown detector "cards"; known are address, all, api_key, birth_date, card`},
		{"how", Spec{Rules: []Rule{{Name: "x", Keys: []string{"a"}, How: "hide"}}}, `unknown how "hide"; use redact, partial, token, hash or drop`},
		{"key", Spec{Rules: []Rule{{Name: "x", Keys: []string{"__"}}}}, `key "__" has no letter or digit`},
		{"long key", Spec{Rules: []Rule{{Name: "x", Keys: []string{strings.Repeat("a", 65)}}}}, "longer than 64 bytes"},
		{"root", Spec{Roots: []string{"a..b"}}, `mask root "a..b"`},
		{"path", Spec{Rules: []Rule{{Name: "x", Paths: []string{"a..b"}}}}, `path "a..b": an empty segment`},
		{"open bracket", Spec{Rules: []Rule{{Name: "x", Paths: []string{"a[0"}}}}, "close it with ]"},
		{"star", Spec{Rules: []Rule{{Name: "x", Paths: []string{"a*"}}}}, "a wildcard stands alone"},
		{"empty path", Spec{Rules: []Rule{{Name: "x", Paths: []string{""}}}}, "use $ for the whole document"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(c.spec, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q in it", err, c.want)
			}
		})
	}
	_, err := Compile(Spec{Rules: []Rule{{Name: "x", Keys: []string{"a"}, How: Hash}}}, Options{HashKey: []byte("short")})
	if err == nil || !strings.Contains(err.Error(), "hash key of at least 16 bytes, got 5") {
		t.Fatalf("short hash key: %v", err)
	}
	_, err = Compile(Spec{Rules: []Rule{{Name: "x", Detect: []string{"a"}}, {Name: "y", How: "b", Keys: []string{"k"}}}}, Options{})
	if err == nil || !strings.Contains(err.Error(), `"x"`) || !strings.Contains(err.Error(), `"y"`) {
		t.Fatalf("all errors at once: %v", err)
	}
}

func TestSpecSurvivesJSON(t *testing.T) {
	in := Spec{
		Rules: []Rule{
			{Name: "a", Paths: []string{`x["é\"."][*].**`}, Keys: []string{"pass word"}, Detect: []string{"card"}, How: Partial},
			{Name: "b", Keys: []string{"k"}},
		},
		Roots: []string{"result"},
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Spec
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Fatalf("got %+v, want %+v", out, in)
	}
}

func TestPathsAndKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		rule Rule
		in   string
		want string
		path string // of the first finding
	}{
		{"field", Rule{Paths: []string{"customer.card.number"}}, `{"customer":{"card":{"number":"x","Number":"y"}}}`, `{"customer":{"card":{"number":"[redacted]","Number":"y"}}}`, "customer.card.number"},
		{"items", Rule{Paths: []string{"items[*].iban"}}, `{"items":[{"iban":1}, {"iban":2.50}],"iban":3}`, `{"items":[{"iban":"[redacted]"}, {"iban":"[redacted]"}],"iban":3}`, "items[*].iban"},
		{"index", Rule{Paths: []string{"[1]"}}, `[1,2,3]`, `[1,"[redacted]",3]`, "[*]"},
		{"index is no key", Rule{Paths: []string{"[*]"}}, `{"*":1,"0":2}`, `{"*":1,"0":2}`, ""},
		{"any", Rule{Paths: []string{"a.*.c"}}, `{"a":{"b":{"c":1},"d":[{"c":1}]}}`, `{"a":{"b":{"c":"[redacted]"},"d":[{"c":1}]}}`, "a.b.c"},
		{"any depth", Rule{Paths: []string{"**.password"}}, `{"password":1,"a":[[{"password":{"b":2}}]]}`, `{"password":"[redacted]","a":[[{"password":"[redacted]"}]]}`, "password"},
		{"deep in the middle", Rule{Paths: []string{"a.**.z"}}, `{"a":{"z":1,"b":{"c":{"z":2}}},"z":3}`, `{"a":{"z":"[redacted]","b":{"c":{"z":"[redacted]"}}},"z":3}`, "a.z"},
		{"all below", Rule{Paths: []string{"a.**"}}, `{"a":{"b":1,"c":[2]},"d":4}`, `{"a":{"b":"[redacted]","c":"[redacted]"},"d":4}`, "a.b"},
		{"all below is not the field", Rule{Paths: []string{"a.**"}}, `{"a":"x"}`, `{"a":"x"}`, ""},
		{"everything", Rule{Paths: []string{"$"}}, ` {"a":1} `, ` "[redacted]" `, ""},
		{"dollar", Rule{Paths: []string{"$.a"}}, `{"a":1}`, `{"a":"[redacted]"}`, "a"},
		{"quoted key", Rule{Paths: []string{`["a.b"]["c\"d"]`}}, `{"a.b":{"c\"d":1}}`, `{"a.b":{"c\"d":"[redacted]"}}`, `a.b.c"d`},
		{"escaped key in the body", Rule{Paths: []string{"card"}}, `{"\u0063ard":"x"}`, `{"\u0063ard":"[redacted]"}`, "card"},
		{"duplicate keys", Rule{Paths: []string{"a"}}, `{"a":1,"a":2}`, `{"a":"[redacted]","a":"[redacted]"}`, "a"},
		{"object", Rule{Paths: []string{"a"}}, `{"a":{"b":[1,{"c":null}]},"d":1}`, `{"a":"[redacted]","d":1}`, "a"},
		{"null stays", Rule{Paths: []string{"a"}}, `{"a":null}`, `{"a":null}`, ""},
		{"bool", Rule{Paths: []string{"a"}}, `{"a":true}`, `{"a":"[redacted]"}`, "a"},

		{"key", Rule{Keys: []string{"password"}}, `{"Password":"a","passWORD":{"b":[1]},"x":{"pass_word":1}}`, `{"Password":"[redacted]","passWORD":"[redacted]","x":{"pass_word":"[redacted]"}}`, "Password"},
		{"key by another convention", Rule{Keys: []string{"api_key"}}, `{"apiKey":1,"API-Key":2,"api.key":3,"api key":4,"api_keys":5}`, `{"apiKey":"[redacted]","API-Key":"[redacted]","api.key":"[redacted]","api key":"[redacted]","api_keys":5}`, "apiKey"},
		{"key in disguise", Rule{Keys: []string{"password"}}, `{"pa\u0073\u0073word":1,"ｐａｓｓｗｏｒｄ":2,"paſſword":3,"pass\u200bword":4}`, `{"pa\u0073\u0073word":"[redacted]","ｐａｓｓｗｏｒｄ":"[redacted]","paſſword":"[redacted]","pass\u200bword":"[redacted]"}`, "password"},
		{"a name assigns nothing", Rule{Keys: []string{"password"}, Detect: []string{"card"}}, `{"password: x":"y","password=":1}`, `{"password: x":"y","password=":1}`, ""},
		{"key in text", Rule{Keys: []string{"password"}}, `{"log":"user=bob password=hunter2 ok=1"}`, `{"log":"user=bob password=[redacted] ok=1"}`, "log"},

		{"partial", Rule{Paths: []string{"a"}, How: Partial}, `{"a":"12345678"}`, `{"a":"****5678"}`, "a"},
		{"partial of a short value", Rule{Paths: []string{"a"}, How: Partial}, `{"a":"1234567"}`, `{"a":"****"}`, "a"},
		{"partial number", Rule{Paths: []string{"a"}, How: Partial}, `{"a":12345678}`, `{"a":"****5678"}`, "a"},
		{"partial object", Rule{Paths: []string{"a"}, How: Partial}, `{"a":{"b":"12345678","c":[true,"x"]}}`, `{"a":{"b":"****5678","c":["****","****"]}}`, "a.b"},
		{"partial needs escapes", Rule{Paths: []string{"a"}, How: Partial}, `{"a":"12345678\"\\\n\u0000"}`, `{"a":"****\"\\**"}`, "a"},
		{"drop first", Rule{Paths: []string{"a"}, How: Drop}, `{ "a" : {"x":1} , "b" : 2 }`, `{ "b" : 2 }`, "a"},
		{"drop last", Rule{Paths: []string{"b"}, How: Drop}, `{ "a" : 1 , "b" : 2 }`, `{ "a" : 1  }`, "b"},
		{"drop middle", Rule{Paths: []string{"b"}, How: Drop}, `{"a":1,"b":null,"c":3}`, `{"a":1,"c":3}`, "b"},
		{"drop all", Rule{Paths: []string{"*"}, How: Drop}, `{"a":1,"b":2}`, `{}`, "a"},
		{"drop elements", Rule{Paths: []string{"[0]", "[1]", "[3]"}, How: Drop}, `[0, 1, 2, 3]`, `[ 2]`, "[*]"},
		{"drop everything", Rule{Paths: []string{"$"}, How: Drop}, `{"a":1}`, `null`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.rule.Name = "r"
			m := mustCompile(t, Spec{Rules: []Rule{c.rule}})
			got, f := maskJSON(t, m, c.in)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("not JSON any more: %s", got)
			}
			switch {
			case c.in == c.want:
				if len(f) != 0 {
					t.Errorf("findings without a change: %v", f)
				}
			case len(f) == 0:
				t.Errorf("changed without a finding")
			case f[0].Path != c.path || f[0].Rule != "r":
				t.Errorf("finding %+v, want path %q", f[0], c.path)
			}
		})
	}
}

func TestStrictestRuleWins(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{
		{Name: "show", Keys: []string{"card"}, Detect: []string{"card"}, How: Partial},
		{Name: "hide", Paths: []string{"b.card"}, How: Redact},
	}})
	got, f := maskJSON(t, m, `{"a":{"card":"4111111111111111"},"b":{"card":"4111111111111111"}}`)
	if want := `{"a":{"card":"****1111"},"b":{"card":"[redacted]"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(f) != 2 || f[0].Rule != "show" || f[1].Rule != "hide" {
		t.Errorf("findings %+v", f)
	}

	// A detector's rule is not undercut by a path that shows the last four.
	m = mustCompile(t, Spec{Rules: []Rule{
		{Name: "show", Paths: []string{"note"}, How: Partial},
		{Name: "hide", Detect: []string{"ssn"}, How: Redact},
	}})
	if got, _ := maskJSON(t, m, `{"note":"his is 219-09-9998"}`); got != `{"note":"[redacted]"}` {
		t.Errorf("got %s", got)
	}
	// Inside a partial object a stricter rule still holds.
	m = mustCompile(t, Spec{Rules: []Rule{
		{Name: "show", Keys: []string{"a"}, How: Partial},
		{Name: "hide", Keys: []string{"b"}, How: Drop},
	}})
	if got, _ := maskJSON(t, m, `{"a":{"b":"123456789","c":"123456789"}}`); got != `{"a":{"c":"****6789"}}` {
		t.Errorf("got %s", got)
	}
}

func TestHashJoins(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Paths: []string{"p"}, Detect: []string{"all"}, How: Hash}}})
	got, _ := maskJSON(t, m, `["4111 1111 1111 1111",4111111111111111,"4111-1111-1111-1111",{"p":"4111111111111111"},{"p":4111111111111111}]`)
	var v []any
	if err := json.Unmarshal([]byte(got), &v); err != nil {
		t.Fatal(err)
	}
	out, _ := maskJSON(t, m, `{"p":"4111-1111-1111-1111"}`)
	var o map[string]any
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		t.Fatal(err)
	}
	want := o["p"]
	if s, _ := want.(string); len(s) != len("[hash:]")+32 {
		t.Fatalf("hash %q", want)
	}
	for i, x := range v[:3] {
		if x != want {
			t.Errorf("element %d: %v, want %v", i, x, want)
		}
	}
	other, err := Compile(Spec{Rules: []Rule{{Name: "r", Detect: []string{"card"}, How: Hash}}}, Options{HashKey: []byte("another key, long enough")})
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := maskJSON(t, other, `"4111111111111111"`); strings.Contains(again, want.(string)) {
		t.Error("another key gives the same hash")
	}
	a, _ := maskJSON(t, m, `"Jane@Example.com"`)
	b, _ := maskJSON(t, m, `"jane@example.COM"`)
	if a != b {
		t.Errorf("case parts an address: %s %s", a, b)
	}
}

func TestNested(t *testing.T) {
	card := Rule{Name: "card", Detect: []string{"card"}}
	key := Rule{Name: "key", Keys: []string{"password"}}
	path := Rule{Name: "path", Paths: []string{"customer.name"}}
	m := mustCompile(t, Spec{Rules: []Rule{card, key, path}, Roots: []string{"result.structuredContent"}})
	for _, c := range []struct{ name, in, want, path string }{
		{"MCP text", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{\"customer\":{\"name\":\"Jane\"},  \"x\":1.50}"}]}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{\"customer\":{\"name\":\"[redacted]\"},  \"x\":1.50}"}]}}`, "result.content[*].text.(json).customer.name"},
		{"MCP structured", `{"result":{"structuredContent":{"customer":{"name":"Jane"}},"customer":{"name":"kept"}}}`,
			`{"result":{"structuredContent":{"customer":{"name":"[redacted]"}},"customer":{"name":"kept"}}}`, "result.structuredContent.customer.name"},
		{"a key in a string", `{"a":"[{\"password\":[1,2]}]"}`, `{"a":"[{\"password\":\"[redacted]\"}]"}`, "a.(json)[*].password"},
		{"path goes on in the string", `{"customer":"{\"name\":\"Jane\"}"}`, `{"customer":"{\"name\":\"[redacted]\"}"}`, "customer.(json).name"},
		{"two levels", `{"a":"{\"b\":\"{\\\"password\\\":\\\"x\\\"}\"}"}`, `{"a":"{\"b\":\"{\\\"password\\\":\\\"[redacted]\\\"}\"}"}`, "a.(json).b.(json).password"},
		{"a string in a string", `"\"\\u0034111111111111111\""`, `"\"[redacted:card]\""`, "(json)"},
		{"cut off", `{"a":"{\"customer\":{\"name\":\"Ja"}`, `{"a":"[redacted]"}`, "a"},
		{"prose with brackets", `{"a":"[1] {not json} [see]"}`, `{"a":"[1] {not json} [see]"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, f := maskJSON(t, m, c.in)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.path != "" && (len(f) != 1 || f[0].Path != c.path) {
				t.Errorf("findings %+v, want path %s", f, c.path)
			}
		})
	}

	// Cut off JSON without path rules is searched as text, and keys still hold.
	m = mustCompile(t, Spec{Rules: []Rule{card, key}})
	got, f := maskJSON(t, m, `{"a":"{\"b\":4111111111111111,\"password\":\"hunter2"}`)
	if got != `{"a":"{\"b\":[redacted:card],\"password\":\"[redacted]"}` || len(f) != 2 || f[0].Count != 1 || f[1].Count != 1 {
		t.Errorf("got %s with %+v", got, f)
	}

	deep := `{"password":1}`
	for range 6 {
		b, err := json.Marshal([]string{deep})
		if err != nil {
			t.Fatal(err)
		}
		deep = string(b)
	}
	if _, _, err := m.JSON([]byte(deep)); !errors.Is(err, ErrTooDeep) {
		t.Errorf("nested six times: %v", err)
	}
}

func TestNamesInFindings(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Detect: []string{"all"}, How: Drop}, {Name: "k", Keys: []string{"token"}}}})
	got, f := maskJSON(t, m, `{"4111111111111111":{"token":"x"},"jane@example.com":1}`)
	if want := `{"[redacted:card]":{"token":"[redacted]"},"[redacted:email]":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("4111")) || bytes.Contains(b, []byte("jane")) {
		t.Errorf("findings show a value: %s", b)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	m, err := Compile(Spec{Rules: []Rule{{Name: "r", Detect: []string{"card"}}}}, Options{MaxFindings: 3})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`{"list":[4111111111111111,4111111111111111]`)
	for i := range 50 {
		b.WriteString(`,"k` + strings.Repeat("x", i+1) + `":4111111111111111`)
	}
	b.WriteString(`}`)
	_, f := maskJSON(t, m, b.String())
	if len(f) != 4 || f[0].Count != 2 || f[3].Path != "..." || f[3].Count != 48 {
		t.Errorf("findings %+v", f)
	}
}

func TestInvalidJSON(t *testing.T) {
	m := detecting(t, "all")
	for _, in := range []string{
		``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a":1}{}`, `{"a":1} x`, `nul`, `nulll`,
		`"a`, `"\x"`, `"\u12g4"`, `"\u12`, "\"a\nb\"", "\"\x00\"", "\"\xff\"", `01`, `-`, `1.`, `1e`, `+1`, `.5`, `NaN`, `'a'`, `{a:1}`, `[`, `]`,
		"\xEF\xBB\xBF", "\x00{\x00}\x00", `{"a":1}` + "\x00",
	} {
		out, f, err := m.JSON([]byte(in))
		if !errors.Is(err, ErrInvalid) || out != nil || f != nil {
			t.Errorf("%q: got %q, %v, %v", in, out, f, err)
		}
	}
	if _, _, err := m.JSON([]byte(strings.Repeat("[", 1000) + strings.Repeat("]", 1000))); !errors.Is(err, ErrTooDeep) {
		t.Errorf("deep nesting: %v", err)
	}
	wide := "[" + strings.Repeat("[[]],", 1000) // siblings don't count
	if _, _, err := m.JSON([]byte(wide + strings.Repeat("[", 256) + strings.Repeat("]", 257))); !errors.Is(err, ErrTooDeep) {
		t.Errorf("257 levels: %v", err)
	}
	if _, _, err := m.JSON([]byte(wide + strings.Repeat("[", 255) + strings.Repeat("]", 256))); err != nil {
		t.Errorf("256 levels: %v", err)
	}
	_, _, err := m.JSON([]byte(`{"card":"4111111111111111"} 4111111111111111`))
	if err == nil || strings.Contains(err.Error(), "4111") {
		t.Errorf("an error that shows a value: %v", err)
	}
}

func TestUnchangedIsTheSame(t *testing.T) {
	m := detecting(t, "all")
	in := []byte("\xEF\xBB\xBF { \"a\" : 1.500E+02, \"b\\u0041\": [ ] ,\"c\":\"\\/\\u00e9é\" }\r\n")
	out, f, err := m.JSON(in)
	if err != nil || len(f) != 0 || &out[0] != &in[0] {
		t.Fatalf("%q %v %v", out, f, err)
	}
	in = []byte("\xEF\xBB\xBF{\"a\":\"4111111111111111\" }")
	out, _, err = m.JSON(in)
	if err != nil || string(out) != "\xEF\xBB\xBF{\"a\":\"[redacted:card]\" }" {
		t.Fatalf("%q %v", out, err)
	}
}

func TestText(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Detect: []string{"all"}, Keys: []string{"password", "card number"}}}})
	for _, c := range []struct{ in, want string }{
		{"Pay 4111 1111 1111 1111, thanks", "Pay [redacted:card], thanks"},
		{"a=1&password=x%20y&b=2", "a=1&password=[redacted]&b=2"},
		{"Password: two words\nnext", "Password: [redacted]\nnext"},
		{`password: "a \" b" c`, `password: "[redacted]" c`},
		{`"password":{"a":1`, `"password":[redacted]`},
		{"\"password\":{\n\"a\":1\n", "\"password\":[redacted]"},
		{"Card Number: 12", "Card Number: [redacted]"},
		{"db.password=x y", "db.password=[redacted] y"},
		{"passwords=x mypassword=y", "passwords=x mypassword=y"},
		{`{"password":1}`, `{"password":"[redacted]"}`},
		{` "\u0034111111111111111" `, ` "[redacted:card]" `},
		{"a \\u0034111-1111-1111-1111 b", "a [redacted:card] b"},
		{"4\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x00", "[redacted:card]\x00"},
		{"4111\xff111111111111", "[redacted:card]"},
		{"", ""},
	} {
		out, _, err := m.Text([]byte(c.in))
		if err != nil || string(out) != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.in, out, err, c.want)
		}
	}
	for _, in := range []string{"\xff\xfe4\x00", "\xfe\xff\x004"} {
		if _, _, err := m.Text([]byte(in)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
	p := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Paths: []string{"a"}}}})
	if !p.HasPaths() || m.HasPaths() {
		t.Error("HasPaths")
	}
	if _, _, err := p.Text([]byte(`{"a":"x`)); !errors.Is(err, ErrInvalid) {
		t.Errorf("cut off JSON under a path rule: %v", err)
	}
}

func TestStringAndField(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{
		{Name: "path", Paths: []string{"customer.cards[*].number"}, How: Partial},
		{Name: "key", Keys: []string{"password"}},
		{Name: "det", Detect: []string{"email"}},
		{Name: "gone", Paths: []string{"gone"}, How: Drop},
	}})
	for _, c := range []struct{ path, in, want, rule string }{
		{"customer.cards[3].number", "4111111111111111", "****1111", "path"},
		{"customer.cards[3].number", "jane@example.com", "[redacted]", "path"}, // of which its last four are the detector's
		{"customer.cards[3].name", "Jane", "Jane", ""},
		{"customer.passWord", "x", "[redacted]", "key"},
		{"password.inner[0]", "x", "[redacted]", "key"},
		{"note", "to jane@example.com", "to [redacted:email]", "det"},
		{"note", `{"password":"x"}`, `{"password":"[redacted]"}`, "key"},
		{"gone", "x", "", "gone"},
		{"", "a@b.co", "[redacted:email]", "det"},
	} {
		got, f, err := m.String(c.path, c.in)
		if err != nil || got != c.want {
			t.Errorf("%s %q: got %q, %v, want %q", c.path, c.in, got, err, c.want)
		}
		if c.rule == "" != (len(f) == 0) || len(f) > 0 && f[0].Rule != c.rule {
			t.Errorf("%s: findings %+v, want %s", c.path, f, c.rule)
		}
	}
	if _, _, err := m.String("a..b", "x"); err == nil {
		t.Error("a broken path is no error")
	}
	if _, _, err := m.String("a.*", "x"); err == nil {
		t.Error("a wildcard is no error")
	}
	how, f, ok, err := m.Field("customer.cards[0].number")
	if err != nil || !ok || how != Partial || f.Rule != "path" || f.Path != "customer.cards[*].number" {
		t.Errorf("Field: %q %+v %v %v", how, f, ok, err)
	}
	if _, _, ok, err := m.Field("customer.cards"); ok || err != nil {
		t.Errorf("Field of the parent: %v %v", ok, err)
	}
}

// One masker serves all calls at once; the race detector watches.
func TestConcurrentUse(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Paths: []string{"**.a"}, Keys: []string{"k"}, Detect: []string{"all"}, How: Hash}}})
	in := `{"a":"{\"k\":1}","b":"\u0034111111111111111 jane@example.com","k":"x"}`
	want, _ := maskJSON(t, m, in)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got, _, err := m.JSON([]byte(in)); err != nil || string(got) != want {
					t.Errorf("got %s, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

// An alias does not take a field out of its mask.
func TestRenamed(t *testing.T) {
	m := mustCompile(t, Spec{Roots: []string{"data"}, Rules: []Rule{{Name: "r", Paths: []string{"customer.card.number"}, Keys: []string{"password"}}}})
	in := `{"data":{"c":{"x":{"number":"1","y":"2"},"z":"3"}}}`
	want := `{"data":{"c":{"x":{"number":"[redacted]","y":"[redacted]"},"z":"[redacted]"}}}`
	renamed := m.Renamed(map[string][]string{"c": {"other", "customer"}, "x": {"card"}, "y": {"number"}, "z": {"password"}})
	if out, _, err := renamed.JSON([]byte(in)); err != nil || string(out) != want {
		t.Errorf("%s %v", out, err)
	}
	if got, _, err := body(renamed.NewJSON(small), in, every(in)...); err != nil || got != want {
		t.Errorf("streamed: %s %v", got, err)
	}
	if out, _, err := m.JSON([]byte(in)); err != nil || string(out) != in {
		t.Errorf("without: %s %v", out, err)
	}
}
