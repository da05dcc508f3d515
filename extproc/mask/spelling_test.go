package mask

import (
	"bytes"
	"strings"
	"testing"
)

// What a text has in the writing of another, as URLs, markup and code have it, is
// found; what only looks like it is left alone.
func TestSpellings(t *testing.T) {
	m := detecting(t, "card", "email", "iban")
	for in, want := range map[string]string{
		"https://x.example/?m=jane.doe%40example.com&n=1":           "https://x.example/?m=[redacted:email]&n=1",
		"https://x.example/?c=4111%201111%201111%201111":            "https://x.example/?c=[redacted:card]",
		"https://x.example/?c=4111+1111+1111+1111&d=1":              "https://x.example/?c=[redacted:card]&d=1",
		"https://x.example/?c=%204111111111111111":                  "https://x.example/?c=%20[redacted:card]",
		"https://x.example/?c=%EF%BC%94111111111111111":             "https://x.example/?c=[redacted:card]",
		"https://x.example/?c=4111%E2%80%8B111111111111":            "https://x.example/?c=[redacted:card]",
		"https://x.example/?next=https%3A%2F%2Fy%3Fm%3Dj%2540a.com": "https://x.example/?next=https%3A%2F%2Fy%3Fm%3D[redacted:email]",
		"write to jane.doe&#64;example.com":                         "write to [redacted:email]",
		"write to jane.doe&#x40;example.com":                        "write to [redacted:email]",
		"write to jane.doe&commat;example.com":                      "write to [redacted:email]",
		"pay 4111&nbsp;1111&nbsp;1111&nbsp;1111 now":                "pay [redacted:card] now",
		"pay DE89&nbsp;3704&nbsp;0044&nbsp;0532&nbsp;0130&nbsp;00":  "pay [redacted:iban]",
		`"\x34111111111111111"`:                                     `"[redacted:card]"`,
		`"\u{34}111111111111111"`:                                   `"[redacted:card]"`,
		`"\U00000034111111111111111"`:                               `"[redacted:card]"`,
		`jane\.doe\@example.com`:                                    "[redacted:email]",
		"4111111111111111 and jane.doe%40example.com":               "[redacted:card] and [redacted:email]",

		"100%4111111111111111":              "100%[redacted:card]",
		"50%40 of it & more":                "50%40 of it & more",
		"a&b%zz&#xyz;\\x":                   "a&b%zz&#xyz;\\x",
		"2026-11-26T17:00:00.000+0200":      "2026-11-26T17:00:00.000+0200",
		`C:\users\_jane\x40`:                `C:\users\_jane\x40`,
		"https://x.example/a%20b?c=1&d=%7B": "https://x.example/a%20b?c=1&d=%7B",
	} {
		if got := detect(t, m, in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		// In JSON, and where it streams.
		leaf, wanted := `["`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(in)+`"]`, `["`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(want)+`"]`
		if got, _ := maskJSON(t, m, leaf); got != wanted {
			t.Errorf("%s became %s, want %s", leaf, got, wanted)
		}
		fill := strings.Repeat("and so on ", 20)
		b := m.NewText(Limits{LookBehind: 128})
		out, err := b.Write([]byte(fill + in + " " + fill))
		rest, end := b.Close()
		if got := string(append(out, rest...)); err != nil || end != nil || got != fill+want+" "+fill {
			t.Errorf("%q became %q, %v %v", in, got, err, end)
		}
	}
}

// What is shown of a value is shown of what it stands for, and equal values have
// equal hashes however they are spelled.
func TestSpellingsShown(t *testing.T) {
	for how, want := range map[string]string{Partial: "***@example.com", Hash: "", Token: ""} {
		m, err := Compile(Spec{Rules: []Rule{{Name: "r", Detect: []string{"email"}, How: how}}}, Options{HashKey: bytes.Repeat([]byte("k"), 32)})
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = detect(t, m, "jane.doe@example.com")
		}
		if got := detect(t, m, "m=jane.doe%40example.com"); got != "m="+want {
			t.Errorf("%s: %q, want %q", how, got, want)
		}
	}
}
