package mask

import "testing"

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

// A name is no longer one behind a value, an id or a file.
func TestAssignedNames(t *testing.T) {
	shows(t, detecting(t, "keyed_secret"),
		"access-key-a1b2c3d4e5f6a7b8 commit=1bf2dbed633e53d5d2f1031bf318b3d3ee00bda7",
		"cThUTGxsdjZ0secretV1UiTaJhMG1YWHl4 id=5929792b-a713-4ca2-ab25-86c0df0f0818")
	hides(t, detecting(t, "private_key", "keyed_secret"), "private_key", [][2]string{
		{"-----BEGIN PRIVATE KEY-----\nab\n-----END PRIVATE KEY----- order=ORD-2015-018504", "{} order=ORD-2015-018504"}})
	hides(t, detecting(t, "keyed_secret"), "keyed_secret", [][2]string{{"the client secret =1bf2dbed633e53d5d2f1031bf318b3d3ee00bda7", "the client secret ={}"}})
}
