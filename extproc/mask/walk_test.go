package mask

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// Names that come in the order of before are not looked up again: another name in
// its place, longer, shorter, escaped or cut off, must not pass for the one expected.
func TestNamesInOrder(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "keys", Keys: []string{"password"}}}})
	for _, c := range []struct{ second, want string }{
		{`{"a":1,"password":"x"}`, `{"a":1,"password":"[redacted]"}`},
		{`{"a":1,"passwordless":"x"}`, `{"a":1,"passwordless":"x"}`},
		{`{"a":1,"passwor":"x"}`, `{"a":1,"passwor":"x"}`},
		{`{"a":1,"pass\u0077ord":"x"}`, `{"a":1,"pass\u0077ord":"[redacted]"}`},
		{`{"a":1,"b":2,"password":"x"}`, `{"a":1,"b":2,"password":"[redacted]"}`},
		{`{"password":"x","a":1}`, `{"password":"[redacted]","a":1}`},
		{`{"a":{"password":"x"},"password":[1]}`, `{"a":{"password":"[redacted]"},"password":"[redacted]"}`},
		{`{"":"x","password":"x"}`, `{"":"x","password":"[redacted]"}`},
	} {
		first := `{"a":1,"password":"x"}`
		out, _, err := m.JSON([]byte(`[` + first + `,` + c.second + `,` + first + `]`))
		masked := `{"a":1,"password":"[redacted]"}`
		if want := `[` + masked + `,` + c.want + `,` + masked + `]`; err != nil || string(out) != want {
			t.Errorf("%s:\n got %s (%v)\nwant %s", c.second, out, err, want)
		}
	}
}

// More names than the cache holds, again and again.
func TestManyNames(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "keys", Keys: []string{"password"}}}})
	var in, want bytes.Buffer
	for i := range 3 * nameSets * nameWays {
		fmt.Fprintf(&in, `,"k%d":"x","password":"x"`, i%(2*nameSets*nameWays))
		fmt.Fprintf(&want, `,"k%d":"x","password":"[redacted]"`, i%(2*nameSets*nameWays))
	}
	out, _, err := m.JSON([]byte("{" + in.String()[1:] + "}"))
	if err != nil || string(out) != "{"+want.String()[1:]+"}" {
		t.Errorf("masked wrongly (%v)", err)
	}
}

// Members and elements that no path names share what is worked out for one of them.
func TestUnnamedMembers(t *testing.T) {
	for _, c := range []struct{ path, in, want string }{
		{"a[1].s", `{"a":[{"s":1},{"s":2},{"s":3}]}`, `{"a":[{"s":1},{"s":"[redacted]"},{"s":3}]}`},
		{"a[*].s", `{"b":1,"a":[{"t":1,"s":1},{"s":2,"t":1}],"c":[{"s":3}]}`, `{"b":1,"a":[{"t":1,"s":"[redacted]"},{"s":"[redacted]","t":1}],"c":[{"s":3}]}`},
		{"**.s", `{"b":{"c":{"d":1,"s":2},"e":{"s":3}},"s":4}`, `{"b":{"c":{"d":1,"s":"[redacted]"},"e":{"s":"[redacted]"}},"s":"[redacted]"}`},
		{"*.s", `{"b":{"s":1,"t":{"s":2}},"c":{"t":{"s":3},"s":4},"s":5}`, `{"b":{"s":"[redacted]","t":{"s":2}},"c":{"t":{"s":3},"s":"[redacted]"},"s":5}`},
		{"a.*", `{"a":{"x":1,"y":{"z":1}},"b":{"x":1}}`, `{"a":{"x":"[redacted]","y":"[redacted]"},"b":{"x":1}}`},
		{"*.*.s", `{"x":"{\"b\":{\"c\":{\"s\":1}}}","b":{"c":{"s":1}}}`, `{"x":"{\"b\":{\"c\":{\"s\":\"[redacted]\"}}}","b":{"c":{"s":"[redacted]"}}}`},
	} {
		m := mustCompile(t, Spec{Rules: []Rule{{Name: "p", Paths: []string{c.path}}}})
		if out, _, err := m.JSON([]byte(c.in)); err != nil || string(out) != c.want {
			t.Errorf("%s:\n got %s (%v)\nwant %s", c.path, out, err, c.want)
		}
	}
}

// The short cut for strings that begin as no text does must let all texts through.
func TestBase64OpensOnTexts(t *testing.T) {
	for _, a := range []string{"a", "~", " ", "\n", "\t", "é", "߿", "ࠀ", "漢", "\U00010348", "\U0010FFFF"} {
		for n := range 4 {
			text := []byte(strings.Repeat("x", n) + a + "jane@example.com")
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
				if got, _ := plainText([]byte(enc.EncodeToString(text))); !bytes.Equal(got, text) {
					t.Errorf("%q is not seen to be text", text)
				}
			}
		}
	}
}

func TestLineEnd(t *testing.T) {
	for _, at := range []int{0, 1, 255, 256, 257, 511, 512, 1000} {
		for _, tail := range []string{"", "\n", "\r", "\r\n", "\n\r", "\rx\n", "\n" + strings.Repeat("x", 300) + "\r", "\r" + strings.Repeat("x", 300) + "\n"} {
			b := []byte(strings.Repeat("x", at) + tail)
			want := bytes.IndexAny(b, "\r\n")
			if got := lineEnd(b, true); got != want {
				t.Errorf("%d bytes and %q: %d, want %d", at, tail[:min(len(tail), 3)], got, want)
			}
			if got := lineEnd(b, false); !strings.Contains(tail, "\r") && got != want {
				t.Errorf("%d bytes and %q, no carriage return: %d, want %d", at, tail[:min(len(tail), 3)], got, want)
			}
		}
	}
}
