package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func detectors(t *testing.T, text string) (Policy, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "words.txt"), []byte("# customers\nAcme\n\n  Blue Bird \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return CheckPolicy(file)
}

func TestDetectors(t *testing.T) {
	p, err := detectors(t, `
detectors:
  - {name: employee_id, pattern: 'E-\d{6}'}
  - {name: customers, words: [Foo Ltd], words_file: words.txt}
  - {name: ner, analyzer: {url: "http://presidio:3000/analyze"}}
`)
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(p.Detectors[1].Words, "|"); w != "Foo Ltd|Acme|Blue Bird" {
		t.Errorf("words: %s", w)
	}
	a := p.Detectors[2].Analyzer
	if a.Language != "en" || *a.MinScore != 0.5 || a.Timeout == 0 || a.MaxText != 8<<10 || a.Concurrency != 8 {
		t.Errorf("defaults: %+v", a)
	}
	if !strings.HasPrefix(p.Detectors[0].Ref(), "employee_id@") || len(p.Detectors[0].Version) != 12 {
		t.Errorf("ref: %s", p.Detectors[0].Ref())
	}
	q, err := detectors(t, "detectors: [{name: employee_id, pattern: 'E-\\d{7}'}]")
	if err != nil || q.Detectors[0].Ref() == p.Detectors[0].Ref() || q.Version == p.Version {
		t.Errorf("another pattern is another detector and another policy: %v", err)
	}
}

func TestDetectorsRefused(t *testing.T) {
	for want, text := range map[string]string{
		"2:5: detector \"\": name must be": "detectors:\n  - {pattern: x}",
		"name must be lower case":          "detectors: [{name: Em-1, pattern: x}]",
		"it finds nothing":                 "detectors: [{name: a}]",
		"stands twice":                     "detectors: [{name: a, pattern: x}, {name: a, pattern: y}]",
		"has no words, or can't be read":   "detectors: [{name: a, words_file: none.txt}]",
		"analyzer stands alone":            "detectors: [{name: a, pattern: x, analyzer: {url: 'http://a/'}}]",
		"is not an http(s) URL":            "detectors: [{name: a, analyzer: {url: 'ftp://a/'}}]",
		"holds a user or password":         "detectors: [{name: a, analyzer: {url: 'http://u:p@a/'}}]",
		"outside 0 to 1":                   "detectors: [{name: a, analyzer: {url: 'http://a/', min_score: 2}}]",
		"outside 10ms to 1m":               "detectors: [{name: a, analyzer: {url: 'http://a/', timeout: 1h}}]",
		"outside 1KiB to 8MiB":             "detectors: [{name: a, analyzer: {url: 'http://a/', max_text: 1GiB}}]",
		"outside 1 to 1024":                "detectors: [{name: a, analyzer: {url: 'http://a/', concurrency: 2000}}]",
		"1:23: \"patern\" is not a known":  "detectors: [{name: a, patern: x}]",
	} {
		_, err := detectors(t, text)
		if err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(want, "known") {
			t.Errorf("%s: got %v, want %q in it", text, err, want)
		}
	}
}

// A policy's files travel with the words that it names.
func TestDetectorsBundled(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"p.yaml": "log: {level: info}\ndetectors:\n  - {name: customers, words_file: words.txt}\n", "words.txt": "Acme\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, p, err := ReadBundle(filepath.Join(dir, "p.yaml"))
	if err != nil || len(b.References) != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
	got, err := b.Policy(t.TempDir(), "/")
	if err != nil || got.Version != p.Version || len(got.Detectors) != 1 || got.Detectors[0].Words[0] != "Acme" || got.Detectors[0].Ref() != p.Detectors[0].Ref() {
		t.Errorf("%+v, %v", got.Detectors, err)
	}
}
