package mask

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The values that are planted, by the detector that must find them.
var planted = []struct{ value, kind string }{
	{"4111111111111111", "card"}, {"378282246310005", "card"}, {"6205500000000000004", "card"},
	{"jane.doe@example.com", "email"}, {"DE89370400440532013000", "iban"}, {"GB29NWBK60161331926819", "iban"},
	{"219-09-9998", "ssn"}, {"AKIA" + "IOSFODNN7EXAMPLE", "api_key"}, {"sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc", "api_key"},
	{"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ", "jwt"},
	{"131052-308T", "national_id_fi"}, {"RSSMRA85T10A562S", "national_id_it"}, {"756.9217.0769.85", "national_id_ch"}, {"111.444.777-35", "national_id_br_cpf"},
	{"11010519491231002X", "national_id_cn"}, {"+49 30 901820", "phone"}, {"glpat-" + "aB3dE6gH9jK2mN5pQ8sT", "api_key"},
}

// spell writes a value in one of the ways in which it must still be found.
// The result may stand in text.
func spell(rnd *rand.Rand, value, kind string) string {
	var b strings.Builder
	way := rnd.IntN(5)
	for i, c := range []byte(value) {
		switch {
		case way == 1 && isDigit(c):
			b.WriteRune(rune(0xFF10 + int(c-'0')))
		case way == 2 && isDigit(c):
			b.WriteRune(rune(0x0660 + int(c-'0')))
		case way == 3 && kind != "email" && kind != "jwt" && rnd.IntN(3) == 0:
			b.WriteByte(c)
			b.WriteString([]string{"\u200b", "\u00ad", "\u2060"}[rnd.IntN(3)])
		case way == 4 && (kind == "card" || kind == "iban") && i > 0 && i%4 == 0:
			b.WriteString([]string{" ", "-", "\u00a0", "\u2011"}[rnd.IntN(4)])
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// encode writes text as a JSON string, with each character escaped at random.
func encode(rnd *rand.Rand, text string) string {
	if rnd.IntN(2) == 0 {
		b, err := json.Marshal(text)
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if rnd.IntN(3) == 0 || r < 0x20 || r == '"' || r == '\\' {
			if r > 0xFFFF {
				r -= 0x10000
				fmt.Fprintf(&b, "\\u%04x\\u%04X", 0xD800+r>>10, 0xDC00+r&0x3FF)
				continue
			}
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}

// document builds a random JSON document around a value. The rest of it is such
// that no detector finds anything.
func document(rnd *rand.Rand, leaf string, depth int) string {
	fill := func() string {
		return []string{"null", "1.50", "-2E+3", `"text"`, `"\u00e9\n"`, "[ ]", "{}", `"2026-11-23T12:16:00Z"`, "1732377600123"}[rnd.IntN(9)]
	}
	if depth == 0 {
		return leaf
	}
	inner := document(rnd, leaf, depth-1)
	switch rnd.IntN(4) {
	case 0:
		return "[" + fill() + ", " + inner + " ,\n" + fill() + "]"
	case 1:
		return `{"a":` + fill() + `,"b" :` + inner + `, "a":` + fill() + "}"
	case 2:
		if strings.Count(inner, `\`) < 1<<10 {
			b, err := json.Marshal(" {\"n\": " + inner + "} ")
			if err != nil {
				panic(err)
			}
			return string(b)
		}
	}
	return `{"` + strings.Repeat("k", rnd.IntN(5)+1) + `": ` + inner + "}"
}

// A planted value is hidden however it is spelled and wherever it stands, and all
// other bytes stay as they are: the output is the input with nothing but the
// value exchanged.
func TestPlantedValues(t *testing.T) {
	m := detecting(t, "all")
	seed := uint64(20261123)
	rnd := rand.New(rand.NewPCG(seed, seed))
	for i := range 4000 {
		p := planted[rnd.IntN(len(planted))]
		before, after := []string{"", "is ", "(", "n=", "号"}[rnd.IntN(5)], []string{"", ".", " ok", ")", "号"}[rnd.IntN(5)]
		spelled := spell(rnd, p.value, p.kind)

		// As text, the expected output is known byte for byte.
		text := before + spelled + after
		out, _, err := m.Text([]byte(text))
		gone := "[redacted:" + p.kind + "]"
		rest := strings.TrimLeft(strings.TrimPrefix(string(out), before+gone), "\u200b\u00ad\u2060")
		if err != nil || !strings.HasPrefix(string(out), before+gone) || rest != after {
			t.Fatalf("seed %d, %d: %q became %q, %v", seed, i, text, out, err)
		}

		// In JSON, the same document is built around a marker, and the two
		// outputs must be the same but for it.
		leaf := encode(rnd, text)
		if p.kind == "card" && rnd.IntN(4) == 0 {
			leaf = p.value
		}
		shape := rnd.Uint64()
		depth := 1 + rnd.IntN(4) // a number alone is text in a stream, JSON in a body
		build := func(leaf string) string {
			return document(rand.New(rand.NewPCG(shape, seed)), leaf, depth)
		}
		in := build(leaf)
		masked, f, err := m.JSON([]byte(in))
		if errors.Is(err, ErrTooDeep) {
			continue
		}
		if err != nil || !json.Valid(masked) {
			t.Fatalf("%d: %s: %v: %s", i, in, err, masked)
		}
		if bytes.Contains(masked, []byte(p.value)) || len(f) != 1 || f[0].Type != p.kind || f[0].Count != 1 {
			t.Fatalf("%d: %s became %s with %+v", i, in, masked, f)
		}
		if got, want := deepText(t, masked), before+gone+after; leaf != p.value && strings.NewReplacer("\u200b", "", "\u00ad", "", "\u2060", "").Replace(got) != want {
			t.Fatalf("%d: %s became %s, in which %q should be", i, in, masked, want)
		}
		marked := build(`"MARK"`)
		head, tail, _ := strings.Cut(marked, `MARK`)
		head, tail = strings.TrimRight(head, `\"`), strings.TrimLeft(tail, `\"`)
		if !bytes.HasPrefix(masked, []byte(head)) || !bytes.HasSuffix(masked, []byte(tail)) {
			t.Fatalf("%d: other bytes changed: %s became %s", i, in, masked)
		}

		// In an event stream, over any chunks.
		body := "id: 1\ndata: " + strings.ReplaceAll(in, "\n", "\ndata: ") + "\n\n"
		want := "id: 1\ndata: " + strings.ReplaceAll(string(masked), "\n", "\ndata: ") + "\n\n"
		cuts := []int{rnd.IntN(len(body)), rnd.IntN(len(body)), rnd.IntN(len(body))}
		slices.Sort(cuts)
		got, _, err := stream(m, sse, body, 0, cuts...)
		if err != nil || got != want {
			t.Fatalf("%d: stream %q cut at %v: got %q, %v, want %q", i, body, cuts, got, err, want)
		}
	}
}

// deepText returns the string that holds a replacement, through JSON in strings.
func deepText(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	var walk func(v any) string
	walk = func(v any) string {
		switch v := v.(type) {
		case map[string]any:
			for _, x := range v {
				if s := walk(x); s != "" {
					return s
				}
			}
		case []any:
			for _, x := range v {
				if s := walk(x); s != "" {
					return s
				}
			}
		case string:
			var inner any
			if json.Unmarshal([]byte(v), &inner) == nil {
				return walk(inner)
			}
			if strings.Contains(v, "[redacted:") {
				return v
			}
		}
		return ""
	}
	return walk(v)
}

func fuzzMasker(f *testing.F) *Masker {
	return mustCompile(f, Spec{
		Rules: []Rule{
			{Name: "all", Detect: []string{"all"}},
			{Name: "key", Keys: []string{"password"}, How: Partial},
			{Name: "path", Paths: []string{"a.b", "**.c[*]", "x[0].*"}, How: Hash},
			{Name: "drop", Paths: []string{"d", "e[1]"}, Detect: []string{"ssn"}, How: Drop},
		},
		Roots: []string{"result"},
	})
}

// JSON accepts what encoding/json accepts, and its output is JSON again.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":{"b":"4111111111111111"},"c":[1,2],"d":3,"password":"{\"x\":1}"}`, `[1,"\ud83d\ude00\ud83d",{"result":{"a":{"b":null}}}]`,
		`"\"{\\\"password\\\":\\\"jane@example.com\\\"}\""`, `{"e":[1,2,3],"x":[{"y":"219-09-9998"}]}`, `{"a":1,}`, ` `, `-0.0e-0`, "\xef\xbb\xbf{}",
		`{"d":1}`, `{"d":1,"d":2}`, `"{\"d\":"`, `"-----BEGIN PRIVATE KEY-----"`, `{"password":"\\\\","password" :"12345678\""}`,
	} {
		f.Add([]byte(s))
	}
	m := fuzzMasker(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		was := bytes.Clone(in)
		out, found, err := m.JSON(in)
		if !bytes.Equal(in, was) {
			t.Fatal("the input was changed")
		}
		text := bytes.TrimPrefix(in, []byte("\xef\xbb\xbf"))
		valid := json.Valid(text) && utf8.Valid(text)
		switch {
		case errors.Is(err, ErrTooDeep):
			return
		case (err == nil) != valid:
			t.Fatalf("%q: valid is %v, got %v", in, valid, err)
		case err != nil:
			return
		}
		if !json.Valid(bytes.TrimPrefix(out, []byte("\xef\xbb\xbf"))) {
			t.Fatalf("%q became %q, which is not JSON", in, out)
		}
		if len(found) == 0 && !bytes.Equal(in, out) {
			t.Fatalf("%q became %q without a finding", in, out)
		}
	})
}

// A card between two bars is found whatever stands around them.
func FuzzText(f *testing.F) {
	f.Add("a", "b", uint8(0))
	f.Add("password=", "&x", uint8(1))
	f.Add(`{"a":"`, `"}`, uint8(2))
	f.Add("-----BEGIN", "PRIVATE KEY", uint8(3))
	f.Add("4111\\u00", "\xff", uint8(4))
	f.Add("eyJ4111 1111 ", "1111", uint8(5))
	all := detecting(f, "all")
	f.Fuzz(func(t *testing.T, before, after string, way uint8) {
		p := planted[int(way)%len(planted)]
		in := before + "|" + p.value + "|" + after
		out, _, err := all.Text([]byte(in))
		if err != nil {
			return
		}
		if strings.Count(string(out), p.value) > strings.Count(before+"|"+after, p.value) || bytes.Equal(out, []byte(in)) {
			t.Fatalf("%q became %q", in, out)
		}
	})
}

// A stream's output doesn't depend on its chunks, and without findings is its input.
func FuzzStream(f *testing.F) {
	for i, s := range []string{
		"data: {\"n\":4111111111111111}\n\n: x\r\ndata: a\r\n\r\ndata: b\r\rid: 1\n\n", "\xef\xbb\xbfdata:4111 1111\ndata:1111 1111\n\n",
		"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "{\"a\":1}\n{\"password\":[1,\"2\"]}\n", "data: {\"password\":\ndata: [1,\nid:\ndata: 2]}\n\n",
		"data: {\"password\":\n", "\r\r\n\n\r", "data\ndata\n\n",
	} {
		f.Add([]byte(s), uint8(i), uint8(i*7))
	}
	m := mustCompile(f, Spec{Rules: []Rule{{Name: "r", Detect: []string{"all"}, Keys: []string{"password"}}}})
	f.Fuzz(func(t *testing.T, in []byte, size, form uint8) {
		contentType := []string{sse, lines, plain}[int(form)%3]
		const limit = 256
		want, found, wantErr := stream(m, contentType, string(in), limit)
		var cuts []int
		for i := int(size%16) + 1; i < len(in); i += int(size%16) + 1 {
			cuts = append(cuts, i)
		}
		got, _, err := stream(m, contentType, string(in), limit, cuts...)
		if (err == nil) != (wantErr == nil) || err == nil && got != want {
			t.Fatalf("%q in one: %q, %v; cut at %v: %q, %v", in, want, wantErr, cuts, got, err)
		}
		if err == nil && len(found) == 0 && want != string(in) {
			t.Fatalf("%q became %q without a finding", in, want)
		}
		if err == nil && contentType == sse {
			// A card in an event of its own is found wherever in the stream it comes.
			body := strings.TrimRight(string(in), "\r\n") + "\n\ndata: [\"4111111111111111\"]\n\n"
			out, _, err := stream(m, sse, body, 0, len(body)/2)
			if err == nil && strings.HasSuffix(out, "4111111111111111\"]\n\n") {
				t.Fatalf("%q: %q", in, out)
			}
		}
	})
}

// Reading a path never fails hard, and what it accepts can be walked.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a.b", "$", "$.a[*]", "**", "a.**.b", `["a\"b"]['c']`, "a[0][12]", "*.*", "a[", "[9999999999]", "a]", "..", "$a", `a["`, "[*].**"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		steps, err := parsePath(p)
		if err != nil {
			return
		}
		m, err := Compile(Spec{Rules: []Rule{{Name: "r", Paths: []string{p}}}}, Options{})
		if err != nil {
			t.Fatalf("%q parses and does not compile: %v", p, err)
		}
		// The place that the path describes, with names for wildcards, is hidden.
		var at strings.Builder
		for _, s := range steps {
			switch s.kind {
			case stepKey:
				at.WriteString("[\"" + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s.key) + "\"]")
			case stepIndex:
				fmt.Fprintf(&at, "[%d]", s.index)
			case stepItems:
				at.WriteString("[7]")
			case stepAny:
				at.WriteString(`["x.y"]`)
			case stepDeep:
			}
		}
		if at.Len() > maxPathBytes {
			return
		}
		if _, _, ok, err := m.Field(at.String()); err != nil || !ok {
			t.Fatalf("%q does not hide %q: %v", p, at.String(), err)
		}
	})
}
