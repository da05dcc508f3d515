package mask

import (
	"strings"
	"testing"
)

// A value that a name in text announces may go on below it, as in YAML.
func TestAssignedBlocks(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "k", Keys: []string{"secret"}}}})
	for in, want := range map[string]string{
		"secret: |\n  one\n\n  two\nother: x\n":            "secret: [redacted]\nother: x\n",
		"a:\n  secret: >-\r\n    one\r\n    two\r\n  b: x": "a:\n  secret: >[redacted]\r\n  b: x",
		"secret: >\n  one\n  two\nother: x":                "secret: >\n  [redacted]\nother: x",
		"secret:\n  one: 1\n  two:\n    - 2\nother: x":     "secret:\n  [redacted]\nother: x",
		"secret:\n- one\n- two\nother: x":                  "secret:\n[redacted]\nother: x",
		"secret: one\n  two\nother: x":                     "secret: [redacted]\nother: x",
		"- secret: one\n  other: x\n- secret: two\n  b: y": "- secret: [redacted]\n  other: x\n- secret: [redacted]\n  b: y",
		"- secret:\n    one: 1\n  other: x":                "- secret:\n    [redacted]\n  other: x",
		"- - secret:\n    - 1\n    other: x":               "- - secret:\n    [redacted]\n    other: x",
		"f({\n  \"secret\":\n    \"one\",\n  \"b\": 1 })":  "f({\n  \"secret\":\n    \"[redacted]\",\n  \"b\": 1 })",
		"secret: \"one\n  two\"\nother: x":                 "secret: \"[redacted]\"\nother: x",
		"secret:\nother: x":                                "secret:\nother: x",
		"  secret:\nother: x":                              "  secret:\nother: x",
		"secret:":                                          "secret:",
		"secret:\n":                                        "secret:\n",
		"secret: one\nother: x\n  more":                    "secret: [redacted]\nother: x\n  more",
		"secret=one\ttwo\nthree":                           "secret=[redacted]\ttwo\nthree",
	} {
		if got := detect(t, m, in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// What an element of XML has for a name holds also where the XML is quoted in text.
func TestQuotedElements(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "k", Keys: []string{"secret"}}, {Name: "d", Detect: []string{"person_name", "keyed_secret", "card"}}}})
	for in, want := range map[string]string{
		"got <r><secret>one</secret><b>x</b></r>":               "got <r><secret>[redacted]</secret><b>x</b></r>",
		"<n:secret a=\"1\">one <i>two</i></n:secret> x":         "<n:secret a=\"1\">[redacted]</n:secret> x",
		"<firstName>Ann</firstName>":                            "<firstName>[redacted:person_name]</firstName>",
		"<firstName><x>Ann</x></firstName>":                     "<firstName><x>Ann</x></firstName>",
		"<client_token>1bf2dbed633e53d5d2f1031b</client_token>": "<client_token>[redacted:keyed_secret]</client_token>",
		"<secret>one":                                        "<secret>[redacted]",
		"<secret/> x <secret></secret> y":                    "<secret/> x <secret></secret> y",
		"a > b, secret > c, <!-- secret -->x":                "a > b, secret > c, <!-- secret -->x",
		"<b>4111111111111111</b>":                            "<b>[redacted:card]</b>",
		"<secret>4111111111111111</secret> 4111111111111111": "<secret>[redacted]</secret> [redacted:card]",
	} {
		if got := detect(t, m, in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		if got, _ := maskJSON(t, m, string(quoted([]byte(in)))); got != string(quoted([]byte(want))) {
			t.Errorf("in JSON, %q became %q, want %q", in, got, want)
		}
	}
}

// A name is no longer one behind a value, an id or a file.
func TestAssignedNames(t *testing.T) {
	shows(t, detecting(t, "keyed_secret"),
		"access-key-a1b2c3d4e5f6a7b8 commit=1bf2dbed633e53d5d2f1031bf318b3d3ee00bda7",
		"cThUTGxsdjZ0secretV1UiTaJhMG1YWHl4 id=5929792b-a713-4ca2-ab25-86c0df0f0818")
	hides(t, detecting(t, "private_key", "keyed_secret"), "private_key", [][2]string{
		{"-----BEGIN PRIVATE KEY-----\nab\n-----END PRIVATE KEY----- order=ORD-2015-018504", "{} order=ORD-2015-018504"}})
	hides(t, detecting(t, "keyed_secret"), "keyed_secret", [][2]string{{"the client secret =1bf2dbed633e53d5d2f1031bf318b3d3ee00bda7", "the client secret ={}"}})
}

// Text of nothing but names is read in one go: if what follows was read again at each
// of them, this would not end in the time that tests have.
func TestNamesAlone(t *testing.T) {
	m := mustCompile(t, Spec{Rules: []Rule{{Name: "k", Keys: []string{"mine"}, Detect: []string{"all"}}}})
	for _, name := range []string{"secret:", "<mine>"} {
		in := strings.Repeat(name, (1<<20)/len(name))
		if _, _, err := m.Text([]byte(in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
