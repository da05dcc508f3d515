package mask

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// body plays a body in chunks.
func body(b *Body, in string, cuts ...int) (string, []Finding, error) {
	var out []byte
	last := 0
	for _, c := range append(slices.Clone(cuts), len(in)) {
		p, err := b.Write([]byte(in[last:c]))
		if err != nil {
			return string(out), nil, err
		}
		out = append(out, p...)
		last = c
	}
	p, err := b.Close()
	return string(append(out, p...)), b.Findings(), err
}

var small = Limits{LookBehind: 64, Whole: 1 << 10}

func everything(t testing.TB) *Masker {
	return mustCompile(t, Spec{
		Rules: []Rule{
			{Name: "all", Detect: []string{"all"}},
			{Name: "key", Keys: []string{"password"}, How: Partial},
			{Name: "path", Paths: []string{"a.b", "**.c[*]", "x[0].*"}, How: Hash},
			{Name: "drop", Paths: []string{"d", "e[1]", "f[*]", "g[0]"}, How: Drop},
		},
		Roots: []string{"result"},
	})
}

// What is masked as it streams by is what is masked whole, wherever it is cut.
func TestBodyJSON(t *testing.T) {
	m := everything(t)
	for _, in := range []string{
		`{"a":{"b":"4111111111111111"},"c":[1,2],"d":3,"password":"{\"x\":1}"}`,
		`{"d":1}`, `{"d":1,"d":2}`, `{ "d" : 1 , "z":2}`, `{"z":1 , "d":2 }`, `{"d":{"d":[1,2,3]},"y":"jane@example.com"}`,
		`{"e":[1,2,3],"x":[{"y":"219-09-9998"},2]}`, `{"f":[1, 2 ,3 ]}`, `{"g":[ {"a":1} , {"a":2}]}`, `{"e":[0,[1,{"a":4111111111111111}],4111111111111111]}`,
		`["` + strings.Repeat("word ", 100) + "4111111111111111" + strings.Repeat(" word", 100) + `"]`,
		`{"t":"` + strings.Repeat(`w\u006frd\n`, 60) + `4\u0031` + "11111111111111" + strings.Repeat(`\n é word`, 60) + `"}`,
		"\xef\xbb\xbf" + `{"password":"12345678"}  `, `4111111111111111`, `"4111111111111111"`, ` [ ] `, `{}`, `[[[[]],{}],null,true,false,-1.5e+3]`,
		`{"n":"{\"a\":{\"b\":\"` + strings.Repeat("x", 100) + `\"}}"}`,
	} {
		want, found, err := m.JSON([]byte(in))
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		for cut := range len(in) {
			got, f, err := body(m.NewJSON(small), in, cut)
			if err != nil || got != string(want) || !slices.Equal(f, found) {
				t.Fatalf("%s cut at %d: %q %+v %v, want %q %+v", in, cut, got, f, err, want, found)
			}
		}
		got, _, err := body(m.NewJSON(small), in, every(in)...)
		if err != nil || got != string(want) {
			t.Fatalf("%s byte by byte: %q %v, want %q", in, got, err, want)
		}
		if got, _, err := body(m.NewText(small), in, every(in)...); err != nil || strings.Contains(got, "4111111111111111") {
			t.Fatalf("%s as text: %q %v", in, got, err)
		}
	}
}

func every(in string) (cuts []int) {
	for i := range len(in) {
		cuts = append(cuts, i)
	}
	return cuts
}

// A value that stands anywhere in a long string or text is found, and nothing
// else is changed.
func TestBodyPlanted(t *testing.T) {
	m := detecting(t, "all")
	rnd := rand.New(rand.NewPCG(7, 7))
	words := []string{"word", "é", "x", "lorem ipsum", "a.b", "12", "\n", "--", "号"}
	for i := range 3000 {
		var before, after strings.Builder
		for range rnd.IntN(60) {
			before.WriteString(words[rnd.IntN(len(words))] + " ")
		}
		for range rnd.IntN(60) {
			after.WriteString(" " + words[rnd.IntN(len(words))])
		}
		p := planted[rnd.IntN(len(planted))]
		limits := Limits{LookBehind: 512, Whole: 4 << 10}
		build := func(value string) (string, *Body) {
			text := before.String() + "(" + value + ")" + after.String()
			if i%2 == 0 {
				return text, m.NewText(limits)
			}
			b, _ := json.Marshal(map[string]string{"k": text})
			return string(b), m.NewJSON(limits)
		}
		in, b := build(p.value)
		want, _ := build("[redacted:" + p.kind + "]")
		cuts := []int{rnd.IntN(len(in)), rnd.IntN(len(in)), rnd.IntN(len(in))}
		slices.Sort(cuts)
		got, found, err := body(b, in, cuts...)
		if err != nil || got != want || len(found) != 1 {
			t.Fatalf("%d: %q became %q, %+v, %v", i, in, got, found, err)
		}
	}
}

// What is hidden by its path is hidden also where it is longer than what is held.
func TestBodyLongHidden(t *testing.T) {
	long := strings.Repeat(`x\n\ud83d\ude00`, 200)
	for how, want := range map[string]string{Redact: `"[redacted]"`, Partial: `"[redacted]"`, Drop: "", Hash: `"[hash:`} {
		m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Paths: []string{"a", "o"}, How: how}}})
		in := `{"a":"` + long + `","b":1,"o":{"p":"` + long + `"}}`
		whole, _, err := m.JSON([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		got, found, err := body(m.NewJSON(small), in, every(in)...)
		if err != nil || !json.Valid([]byte(got)) || !strings.Contains(got, want) || strings.Contains(got, "x\\n") || len(found) == 0 {
			t.Errorf("%s: %s %v", how, got, err)
		}
		if how != Partial && got != string(whole) {
			t.Errorf("%s: %s, whole %s", how, got, whole)
		}
	}
}

// A body that is wrong before as much as the look-behind came is refused whole;
// what must be read whole is bounded.
func TestBodyRefused(t *testing.T) {
	m := everything(t)
	for name, in := range map[string]string{
		"broken":           `{"a":1]`,
		"cut off":          `{"a":"b`,
		"two documents":    `{} {}`,
		"a long name":      `{"` + strings.Repeat("k", 200) + `":1}`,
		"a long number":    `[` + strings.Repeat("1", 200) + `]`,
		"JSON in a string": `["{\"a\":\"` + strings.Repeat("x", 2000) + `\"}"]`,
		"spaces":           `{"a":1,` + strings.Repeat(" ", 2000) + `"d":1}`,
		"a long value":     `["password: ` + strings.Repeat("x", 500) + `"]`,
		"not UTF-8":        `["` + strings.Repeat("x", 100) + "\xff" + strings.Repeat("x", 100) + `"]`,
		"nothing":          ``,
	} {
		for _, cuts := range [][]int{nil, every(in)} {
			b := m.NewJSON(small)
			got, _, err := body(b, in, cuts...)
			if err == nil {
				t.Errorf("%s: passed as %q", name, got)
			}
			if len(in) <= small.LookBehind && got != "" {
				t.Errorf("%s: %q left", name, got)
			}
		}
	}
	for name, in := range map[string]string{
		"UTF-16":    "\xff\xfeh\x00i\x00",
		"not UTF-8": strings.Repeat("word ", 50) + "\xff",
		"cut JSON":  `{"a":{"b":` + strings.Repeat(`"x",`, 10),
	} {
		if got, _, err := body(m.NewText(small), in, every(in)...); err == nil {
			t.Errorf("%s: passed as %q", name, got)
		}
	}
}

// However long a body is, only so much of it is held.
func TestBodyMemory(t *testing.T) {
	m := everything(t)
	piece := bytes.Repeat([]byte(`word 4111111111111111 word word word `), 100)
	for name, parts := range map[string][2]string{"one string": {`{"a":{"x":"`, `"}}`}, "a hidden string": {`{"a":{"b":"`, `"}}`}, "text": {"", ""}, "dropped": {`{"d":["`, `"]}`}} {
		b := m.NewJSON(Limits{})
		if name == "text" {
			b = m.NewText(Limits{})
		}
		held, out := 0, 0
		write := func(p []byte) {
			t.Helper()
			got, err := b.Write(p)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if bytes.Contains(got, []byte("4111111111111111")) {
				t.Fatalf("%s: not masked", name)
			}
			held, out = max(held, b.Held()), out+len(got)
		}
		write([]byte(parts[0]))
		for range 1000 {
			write(piece)
		}
		write([]byte(parts[1]))
		if rest, err := b.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		} else if out += len(rest); out == 0 {
			t.Errorf("%s: nothing came out", name)
		}
		if held > 512<<10 {
			t.Errorf("%s: %d bytes held", name, held)
		}
	}
}

func FuzzBody(f *testing.F) {
	for i, s := range []string{
		`{"a":{"b":"4111111111111111"},"c":[1,2],"d":3,"password":"{\"x\":1}"}`, `{"e":[1,2,3],"f":[1 , 2],"g":[ 1 , 2 ]}`,
		`["` + strings.Repeat(`\ud83d\ude00 4111 `, 20) + `"]`, `{"d":1,"d" : {"d":[]} , "x":1}`, "\xef\xbb\xbf[]", `{"password":"` + strings.Repeat("x", 100) + `"}`,
	} {
		f.Add([]byte(s), uint8(i))
	}
	m := everything(f)
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var cuts []int
		for i := int(size%16) + 1; i < len(in); i += int(size%16) + 1 {
			cuts = append(cuts, i)
		}
		for kind, make := range map[string]func(Limits) *Body{"json": m.NewJSON, "text": m.NewText} {
			want, _, wantErr := body(make(small), string(in))
			got, found, err := body(make(small), string(in), cuts...)
			if (err == nil) != (wantErr == nil) || err == nil && got != want {
				t.Fatalf("%s %q in one: %q, %v; cut at %v: %q, %v", kind, in, want, wantErr, cuts, got, err)
			}
			if err != nil {
				continue
			}
			if len(found) == 0 && got != string(in) {
				t.Fatalf("%s %q became %q without a finding", kind, in, got)
			}
			if kind == "json" && !json.Valid(bytes.TrimPrefix([]byte(got), []byte("\xef\xbb\xbf"))) {
				t.Fatalf("%q became %q, which is not JSON", in, got)
			}
		}
		// As much look-behind as there is body: the same as in one piece.
		whole, found, err := m.JSON(in)
		got, f2, err2 := body(m.NewJSON(Limits{}), string(in), cuts...)
		if (err == nil) != (err2 == nil) || err == nil && (got != string(whole) || fmt.Sprint(found) != fmt.Sprint(f2)) {
			t.Fatalf("%q whole: %q %+v %v; streamed: %q %+v %v", in, whole, found, err, got, f2, err2)
		}
	})
}
