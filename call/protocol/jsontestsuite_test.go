package protocol

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/base64"
	"io"
	"strings"
	"testing"
)

//go:embed testdata/jsontestsuite.txt
var jsonTestSuite string

// refusedHere are documents that are JSON and are refused all the same, each
// with the reason.
var refusedHere = map[string]string{
	"y_object_duplicated_key.json":           "parsers differ in which one counts",
	"y_object_duplicated_key_and_value.json": "parsers differ in which one counts",
	"y_number_double_close_to_zero.json":     "a number of that many characters is rounded differently",
	"y_object_escaped_null_in_key.json":      "some parsers take NUL for the end of a text",
	"y_string_null_escape.json":              "some parsers take NUL for the end of a text",
}

// Every document of the suite is taken or refused as it should be. What the suite
// leaves to the parser (i_) is what parsers differ in, so all of it is refused.
func TestJSONTestSuite(t *testing.T) {
	n := 0
	for line := range strings.Lines(jsonTestSuite) {
		name, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			if name != "" && !strings.HasPrefix(line, "#") {
				name, text = strings.TrimSpace(line), ""
			} else {
				continue
			}
		}
		n++
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if data, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		_, err = document(data)
		want := err == nil
		switch name[:2] {
		case "y_":
			want = refusedHere[name] == ""
		case "n_", "i_":
			want = false
		}
		if (err == nil) != want {
			t.Errorf("%s: taken is %v, want %v (%v)", name, err == nil, want, err)
		}
	}
	if n != 318 {
		t.Errorf("%d documents, want 318", n)
	}
}
