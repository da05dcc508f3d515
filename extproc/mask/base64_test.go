package mask

import (
	"encoding/base64"
	"strings"
	"testing"
)

// What is hidden in text is hidden in base64 of it, and it stays base64.
func TestBase64(t *testing.T) {
	const card = "4111111111111111"
	m := everything(t)
	std, raw, web := base64.StdEncoding.EncodeToString, base64.RawStdEncoding.EncodeToString, base64.URLEncoding.EncodeToString
	for _, tt := range []struct{ in, want string }{
		{std([]byte("card " + card)), std([]byte("card [redacted:card]"))},
		{raw([]byte("card, " + card)), raw([]byte("card, [redacted:card]"))},
		{web([]byte("??>>??>> " + card)), web([]byte("??>>??>> [redacted:card]"))},
		{std([]byte(`{"password":"12345678","n":1}`)), std([]byte(`{"password":"****5678","n":1}`))},
		{std([]byte(`{"d":1,"n":1}`)), std([]byte(`{"n":1}`))},
		{std([]byte(std([]byte(card)))), std([]byte(std([]byte("[redacted:card]"))))},
		{std([]byte("nothing to hide")), std([]byte("nothing to hide"))},
		{"6f1c1b0e-7d1c-4a51-9a52-0123456789ab", "6f1c1b0e-7d1c-4a51-9a52-0123456789ab"},
	} {
		in, want := `{"x":"`+tt.in+`"}`, `{"x":"`+tt.want+`"}`
		if out, _, err := m.JSON([]byte(in)); err != nil || string(out) != want {
			t.Errorf("%s became %s, %v, want %s", in, out, err, want)
		}
		if got, _, err := body(m.NewJSON(small), in, every(in)...); err != nil || got != want {
			t.Errorf("%s streamed became %s, %v, want %s", in, got, err, want)
		}
		if out, _, err := m.String("x", tt.in); err != nil || out != tt.want {
			t.Errorf("%s alone became %s, %v, want %s", tt.in, out, err, tt.want)
		}
	}
	// Also where it is longer than the look-behind.
	long := `["` + std([]byte(strings.Repeat("é word ", 60)+card)) + `"]`
	if got, found, err := body(m.NewJSON(small), long, 7, 99); err != nil || len(found) != 1 {
		t.Errorf("%s became %s, %v", long, got, err)
	}
	deep := card
	for range 6 {
		deep = std([]byte(deep))
	}
	if out, _, err := m.JSON([]byte(`["` + deep + `"]`)); err == nil {
		t.Errorf("six times: %s", out)
	}
}

// Files that are no text are hidden where they are known to be files.
func TestBlobs(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Detect: []string{"card"}}}, Blobs: []string{"f[*].blob"}})
	png := base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\x1a\n\x00\x00 4111111111111111"))
	for size, limits := range map[int]Limits{1: {}, 20: small} {
		png := strings.Repeat(png, size)
		in := `{"f":[{"blob":"` + png + `"},{"blob":"` + base64.StdEncoding.EncodeToString([]byte("a 4111111111111111")) + `"},{"blob":"not base64!"}],"blob":"` + png + `"}`
		want := `{"f":[{"blob":"[redacted]"},{"blob":"` + base64.StdEncoding.EncodeToString([]byte("a [redacted:card]")) + `"},{"blob":"[redacted]"}],"blob":"` + png + `"}`
		if got, found, err := body(m.NewJSON(limits), in, 9, 40); err != nil || got != want || found[0].Type != "binary" {
			t.Errorf("%s became %s, %+v, %v", in, got, found, err)
		}
	}
}
