package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callgate/callgate/config"
)

func policyOf(t *testing.T, text string) config.Policy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := config.CheckPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Masks travel with the name and version of a policy's own detectors, not with
// what they say; those are found under it while calls of that policy may be
// answered.
func TestOwnDetectors(t *testing.T) {
	old := policyOf(t, "detectors: [{name: employee, pattern: 'E-\\d{6}'}]\nrules: [{name: r, action: mask, mask: {detect: [employee, card]}}]")
	rules, _ := sources(old, config.Approvers{})
	ref := old.Detectors[0].Ref()
	if got := strings.Join(rules[0].Mask.Detect, " "); got != ref+" card" {
		t.Fatalf("the mask names %s", got)
	}
	fresh := policyOf(t, "detectors: [{name: employee, pattern: 'E-\\d{7}'}]")
	d := &detectors{}
	for i, step := range []struct {
		held      []config.Policy
		old, news bool
	}{
		{[]config.Policy{old}, true, false}, {[]config.Policy{old, fresh}, true, true}, {[]config.Policy{fresh}, true, true}, {[]config.Policy{fresh}, true, true},
		{nil, false, true},
	} {
		if err := d.use(step.held); err != nil {
			t.Fatal(err)
		}
		if got := d.Detector(ref) != nil; got != step.old {
			t.Errorf("step %d: the old one is known: %v", i, got)
		}
		if got := d.Detector(fresh.Detectors[0].Ref()) != nil; got != step.news {
			t.Errorf("step %d: the new one is known: %v", i, got)
		}
	}
}

func TestOwnDetectorsRefused(t *testing.T) {
	for want, text := range map[string]string{
		"p.yaml:1:20: detector \"card\" is built in":           "detectors: [{name: card, pattern: x}]",
		"p.yaml:1:13: detector \"a\": pattern is not RE2":      "detectors: [{name: a, pattern: '(?=x)'}]",
		"p.yaml:1:13: detector \"a\": pattern matches nothing": "detectors: [{name: a, pattern: 'x*'}]",
		"unknown detector \"b\"":                               "detectors: [{name: a, pattern: 'x'}]\nrules: [{name: r, action: mask, mask: {detect: [b]}}]",
		"ca_file":                                              "detectors: [{name: a, analyzer: {url: 'https://a/', ca_file: none.pem}}]",
	} {
		err := checkMasks(policyOf(t, text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", text, err, want)
		}
	}
}
