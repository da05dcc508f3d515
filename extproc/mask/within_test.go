package mask

import (
	"strings"
	"testing"
)

// What one detector looks at and refuses hides nothing from the others: the value
// in braces is found, whatever looks like the beginning of something else before
// it. A person extends it by a line.
func TestRefusedHidesNothing(t *testing.T) {
	custom := map[string]*Custom{}
	for name, pattern := range map[string]string{"digits": `123[a-z]`, "dashed": `-00[a-z]`, "dashes": `--7[a-z]`} {
		c, err := NewCustom(Definition{Name: name, Pattern: pattern})
		if err != nil {
			t.Fatal(err)
		}
		custom[name] = c
	}
	m, err := Compile(Spec{Rules: []Rule{{Name: "r", Detect: []string{"all", "digits", "dashed", "dashes"}}}}, Options{Custom: custom})
	if err != nil {
		t.Fatal(err)
	}
	const card = "4111111111111111"
	for _, text := range []string{
		// Colons, as addresses of version 6 and times have them.
		"a:{" + card + "}", "ref 12:{" + card + "}", "c::{" + card + "} x", "1:2:3:{" + card + "}", "::{ABIAABCDEFGHIJKLMNOPQRST}",
		"a:b:{jane@example.com}", "ab::{" + card + "}", "00:1B:44:11:3A:B7:{" + card + "}",
		// Digits, which are read as a whole with what parts them.
		"{r8_1" + strings.Repeat("aB3", 13) + "}", "{fm2_1" + strings.Repeat("aB3dE6gH9jK2mN5pQ8sT", 6) + "}",
		"{v1.0-" + strings.Repeat("a1f4c6", 4) + "-" + strings.Repeat("0123456789abcdef", 9) + "a1}",
		"x0{123a}", "5{-00a}", "1 2-3{-00a}", "12-{-00a}", "9{--7a}", "99999999999999999999{123a}",
		// The rest of a word after its first digits.
		"c0ffee1iban{GB29NWBK60161331926819}", "a1n{" + card + "}", "a1b2c3-{" + card + "}", "a1 {" + card + "}",
		"a1x{xoxb-" + "123456789012-123456789012-abcdefghijklmnopqrstuvwx}", "x2y{" + card + "}",
		// Groups of too few digits.
		"12-34 {" + card + "}", "2026-11-23 {" + card + "}", "2026-11-23 {219-09-9998}", "1.2.3 {756.9217.0769.85}", "12-34-{" + card + "}",
	} {
		value := text[strings.IndexByte(text, '{')+1 : strings.IndexByte(text, '}')]
		plain := strings.NewReplacer("{", "", "}", "").Replace(text)
		for _, in := range []string{plain, `{"x":"` + plain + `"}`} {
			out, _, err := m.Text([]byte(in))
			if err != nil || strings.Contains(string(out), value) || string(out) == in {
				t.Errorf("%q became %q, %v", in, out, err)
			}
		}
	}
}

// The scan relies on it that the number of no country has so few digits.
func TestNationalFormsHaveDigits(t *testing.T) {
	for _, n := range nationalIDs {
		for _, f := range n.forms {
			if lead(f) == 0 && strings.Count(f, "d") < 7 {
				t.Errorf("%s: %q has less than seven digits and begins with one: groups.hollow would pass it by", n.code, f)
			}
		}
	}
}
