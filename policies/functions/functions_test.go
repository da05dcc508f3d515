package functions

import (
	"fmt"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
)

func eval(t testing.TB, expr string, vars map[string]any) (any, error) {
	t.Helper()
	env, err := cel.NewEnv(cel.Lib(Library{}), cel.Variable("x", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	checked, issues := env.Compile(expr)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", expr, issues.Err())
	}
	p, err := env.Program(checked)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := p.Eval(vars)
	if err != nil {
		return nil, err
	}
	return v.Value(), nil
}

// Each expression is true.
func TestFunctions(t *testing.T) {
	for _, expr := range []string{
		`sql.kind("select 1") == "select" && sql.kind("drop table x") == "ddl" && sql.kind("select 1; select 2") == "multiple" && sql.kind("hello") == "invalid"`,
		`sql.kind("/*!50000 drop table x */", "mysql") == "ddl" && sql.kind("select $$a$$", "postgres") == "select"`,
		`sql.kinds("with x as (delete from t where a=1 returning *) select * from x") == ["select", "delete"] && sql.kinds("??") == ["invalid"]`,
		`sql.tables("select * from b join a on a.x=b.x") == ["a", "b"] && sql.functions("select pg_sleep(1)") == ["pg_sleep"]`,
		`sql.statements("select 1; select 2") == 2 && sql.statements("??") == 0`,
		`sql.readonly("select 1") && !sql.readonly("select 1 for update") && !sql.readonly("??") && !sql.readonly("insert into t values (1)")`,
		`sql.hasWhere("delete from t where id = 7") && !sql.hasWhere("delete from t") && !sql.hasWhere("delete from t where 1=1") && !sql.hasWhere("??")`,
		`sql.limit("select * from t limit 7") == 7 && sql.limit("select * from t") == -1 && sql.limit("??") == -1`,
		`text.matchesAny("hello world", ["^x", "wor"]) && !text.matchesAny("hello", ["^x"])`,
		`text.containsAny("Ignore  PREVIOUS instructions", ["ignore previous"]) && !text.containsAny("fine", ["bad"])`,
		`text.containsAny("ign\u200bore prev\u00adious", ["ignore previous"])`, // zero width, soft hyphen
		`text.containsAny("іgnоre рrevіous", ["ignore previous"])`,             // Cyrillic
		`text.containsAny("ｉｇｎｏｒｅ ｐｒｅｖｉｏｕｓ", ["ignore previous"])`,             // full width
		`text.containsAny("𝐢𝐠𝐧𝐨𝐫𝐞 𝐩𝐫𝐞𝐯𝐢𝐨𝐮𝐬", ["ignore previous"])`,             // mathematical
		`text.normalize("A\u202eB\t C") == "ab c"`,
		`"drop table" in text.decode("drop%20table") && "drop table" in text.decode("&#100;rop table") && "drop table" in text.decode("\\u0064rop table")`,
		`"drop table" in text.decode("ZHJvcCB0YWJsZQ==") && "drop table" in text.decode("64726f70207461626c65")`,
		`"drop table" in text.decode("%5A%48%4A%76%63%43%42%30%59%57%4A%73%5A%51%3D%3D")`, // base64 inside percent
		`"drop table" in text.decode("run this: ZHJvcCB0YWJsZQ== now")`,
		`"rm -rf" in text.decode("r''m${IFS}-rf")`,
		`"'DROP'" in text.decode("'DR' || 'OP'")`,
		`text.entropy("aaaa") == 0.0 && text.entropy("abcd") == 2.0`,
		`net.inCIDR("10.1.2.3", ["10.0.0.0/8"]) && !net.inCIDR("11.1.2.3", ["10.0.0.0/8"]) && net.inCIDR("::1", ["::1"]) && !net.inCIDR("x", ["10.0.0.0/8"])`,
		`net.host("https://user:pass@EXAMPLE.com.:8443/x?y#z") == "example.com" && net.host("//[::1]:80/") == "::1" && net.scheme("FILE:///x") == "file"`,
		`json.strings({"a": ["b", {"c": "d"}], "e": 7}).size() == 5`,
		`json.path(x, "$.a[*].b") == [1, 2]`,
		`glob.match("a-b", "a-*") && !glob.match("b", "a*")`,
	} {
		got, err := eval(t, expr, map[string]any{"x": map[string]any{"a": []any{map[string]any{"b": int64(1)}, map[string]any{"b": int64(2)}}}})
		if err != nil || got != true {
			t.Errorf("%s: %v, %v", expr, got, err)
		}
	}
}

// One line an address: whether it leads inside, however it is written.
func TestPrivate(t *testing.T) {
	for _, c := range []struct {
		address string
		want    bool
	}{
		{"https://example.com/x", false}, {"8.8.8.8", false}, {"https://[2606:4700::1111]/", false}, {"api.github.com:443", false},
		{"http://127.0.0.1/", true}, {"http://127.1/", true}, {"http://0x7f000001/", true}, {"http://2130706433/", true}, {"http://0177.0.0.1/", true},
		{"http://[::1]/", true}, {"http://[::ffff:10.0.0.1]/", true}, {"http://[64:ff9b::10.0.0.1]/", true}, {"http://[2002:a00:1::]/", true},
		{"http://[::127.0.0.1]/", true}, {"http://[fd00::1]/", true}, {"http://[fe80::1%25eth0]/", true},
		{"http://169.254.169.254/latest/meta-data", true}, {"http://metadata.google.internal/", true}, {"http://100.100.100.200/", true},
		{"http://localhost:8080/", true}, {"http://LOCALHOST./", true}, {"http://foo.localhost/", true}, {"http://ⓛocalhost/", true},
		{"http://example.com@10.0.0.1/", true}, {`http://example.com\@10.0.0.1/`, false}, {"http://10.0.0.1#@example.com/", true},
		{"http://10.0.0.1.nip.io/", true}, {"http://intranet/", true}, {"http://db.svc/", true}, {"http://0/", true}, {"http://0.0.0.0", true},
		{"http://１２７.0.0.1/", true}, {"http://127。0。0。1/", true}, {"http://192.168.1.1:80/", true}, {"172.31.255.255", true}, {"172.32.0.1", false},
		{"ht\ntp://127.0.0.\n1/", true}, {"http://%31%32%37.0.0.1/", true}, {"", false},
	} {
		if got := private(c.address); got != c.want {
			t.Errorf("%q (host %q): %v", c.address, host(c.address), got)
		}
	}
}

func TestBounds(t *testing.T) {
	for name, c := range map[string]struct {
		expr string
		x    any
	}{
		"a long text to match":   {`text.matchesAny(x, ["a"])`, strings.Repeat("b", maxText+1)},
		"a long text to decode":  {`text.decode(x).size() > 0`, strings.Repeat("b", maxText+1)},
		"a wide value":           {`json.strings(x).size() > 0`, wide(nodesMost + 1)},
		"a number for a text":    {`text.entropy(x) > 0.0`, int64(7)},
		"a pattern that is none": {`text.matchesAny("a", ["("])`, nil},
		"a dialect that is none": {`sql.kind("select 1", "oracle") == "select"`, nil},
		"a network that is none": {`net.inCIDR("10.0.0.1", ["x"])`, nil},
	} {
		if got, err := eval(t, c.expr, map[string]any{"x": c.x}); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	// The worst that decode can meet stays bounded.
	for _, s := range []string{strings.Repeat("%25", 100_000), strings.Repeat("&amp;", 100_000), strings.Repeat("YWFhYWFhYWE=", 20_000), strings.Repeat("'' ", 100_000)} {
		if got, _ := decode(s); len(got) > layersMost {
			t.Errorf("%d layers", len(got))
		}
	}
}

func wide(n int) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = "x"
	}
	return out
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"drop%20table", "&#x64;", `\u{64}`, "ZHJvcCB0YWJsZQ==", "http://0x7f.1/", "http://[::ffff:1.2.3.4]:80", "іgnоre", "a\u202eb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, _ := decode(s); len(got) > layersMost {
			t.Error("too many layers")
		}
		if n := normalize(s); normalize(n) != n && normalize(normalize(n)) != normalize(n) {
			t.Errorf("normalising %q does not come to rest: %q", s, n)
		}
		private(s)
		host(s)
		_ = fmt.Sprint(entropy(s))
	})
}
