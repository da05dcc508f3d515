package policies

import (
	"os"
	"strings"
	"testing"
)

// Every condition that the guide shows compiles.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../docs/guide/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	n, inside := 0, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```cel":
			inside = true
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside && line != "":
			n++
			if _, err := Compile([]Rule{{Name: "r", Action: Allow, When: line}}, Config{Connections: known}); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d conditions were found", n)
	}
}
