package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Detector is a detector of one's own, which masks name in detect.
type Detector struct {
	// Name is letters, digits and underscores, and none of the built-in ones.
	Name string `yaml:"name"`
	// Pattern is a regular expression in RE2 syntax. Its first group, where it
	// has one, is what is hidden.
	Pattern string `yaml:"pattern"`
	// Words are words and phrases, found whole and in any case.
	Words []string `yaml:"words"`
	// WordsFile has one word or phrase a line; lines that begin with # don't count.
	WordsFile string `yaml:"words_file"`
	// MatchCase makes the case of words count. Default false.
	MatchCase bool `yaml:"match_case"`
	// Keys are key names at any depth, whose values are hidden.
	Keys []string `yaml:"keys"`
	// Analyzer is a service that is asked about every text.
	Analyzer Analyzer `yaml:"analyzer"`

	Position Position `yaml:"-"`
	// Version is a hash over what the detector says, the file that it names
	// included.
	Version string `yaml:"-"`

	at map[string]Position
	// written is how the certificate file was named, and what is in it.
	written string
}

// Said is what a detector says wherever its files lie: words are told one by one,
// and a certificate by its name as written and a hash of its content.
func (d Detector) Said() Detector {
	d.WordsFile = ""
	if d.written != "" {
		d.Analyzer.CAFile = d.written
	}
	return d
}

// Analyzer is a service with the HTTP API of Microsoft Presidio's analyzer. Where
// it can't answer, the response is withheld.
type Analyzer struct {
	URL      string   `yaml:"url"`      // of its analyze endpoint, such as http://presidio:3000/analyze
	Language string   `yaml:"language"` // of the texts. Default en
	Entities []string `yaml:"entities"` // kinds to look for. Default: all that it knows
	// MinScore is the least certainty that counts, 0 to 1. Default 0.5.
	MinScore *float64 `yaml:"min_score"`
	// Timeout bounds one request. Default 2s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxText bounds the text of one request; a longer one is sent in parts.
	// Default 8KiB.
	MaxText Bytes `yaml:"max_text"`
	// Concurrency bounds the requests under way. Default 8.
	Concurrency uint32 `yaml:"concurrency"`
	CAFile      string `yaml:"ca_file"` // what an https analyzer's certificate must chain to. Default: the system's roots
}

// Ref names a detector and what it says: masks travel with it.
func (d Detector) Ref() string { return d.Name + "@" + d.Version }

// Place is where a setting of the detector stands.
func (d Detector) Place(path string) Position {
	if at, ok := d.at[path]; ok {
		return at
	}
	return d.Position
}

func (d *Detector) locate(file string, said *yaml.Node, find files) {
	parts := []any{plain(said)}
	for _, path := range []*string{&d.WordsFile, &d.Analyzer.CAFile} {
		if *path == "" {
			continue
		}
		at, data := find.reference(file, *path)
		sum := sha256.Sum256(data)
		parts = append(parts, *path, hex.EncodeToString(sum[:]))
		if path != &d.WordsFile {
			d.written = *path + " (SHA-256 " + hex.EncodeToString(sum[:8]) + "…)"
			*path = at
			continue
		}
		*path = at
		for _, line := range strings.Split(string(data), "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				d.Words = append(d.Words, line)
			}
		}
	}
	d.Version = digest(parts...)
	if d.Analyzer.URL != "" {
		set(&d.Analyzer.Language, "en")
		set(&d.Analyzer.Timeout, 2*time.Second)
		set(&d.Analyzer.MaxText, 8<<10) // what Presidio needs grows faster than a text
		set(&d.Analyzer.Concurrency, 8)
		if d.Analyzer.MinScore == nil {
			half := 0.5
			d.Analyzer.MinScore = &half
		}
	}
}

var detectorForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func (d Detector) validate(ps *problems) {
	bad := func(path, format string, args ...any) {
		ps.add(d.Place(path), "detector %q: %s", d.Name, fmt.Sprintf(format, args...))
	}
	if !detectorForm.MatchString(d.Name) {
		bad("name", "name must be lower case letters, digits and underscores, such as employee_id")
	}
	own := d.Pattern != "" || len(d.Words)+len(d.Keys) > 0
	switch {
	case d.WordsFile != "" && len(d.Words) == 0:
		bad("words_file", "words_file %s has no words, or can't be read", d.WordsFile)
	case d.Analyzer.URL == "" && !own:
		bad("", "it finds nothing; set pattern, words, words_file, keys or analyzer")
	case d.Analyzer.URL != "" && own:
		bad("analyzer", "analyzer stands alone; make another detector for pattern, words and keys")
	}
	a := d.Analyzer
	if a.URL == "" {
		return
	}
	switch u, err := url.Parse(a.URL); {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		bad("analyzer.url", "analyzer.url %q is not an http(s) URL", a.URL)
	case u.User != nil:
		bad("analyzer.url", "analyzer.url holds a user or password")
	}
	if a.MinScore != nil && (*a.MinScore < 0 || *a.MinScore > 1) {
		bad("analyzer.min_score", "analyzer.min_score %v is outside 0 to 1", *a.MinScore)
	}
	if a.Timeout < 10*time.Millisecond || a.Timeout > time.Minute {
		bad("analyzer.timeout", "analyzer.timeout %s is outside 10ms to 1m; responses wait for it", a.Timeout)
	}
	if a.MaxText < 1<<10 || a.MaxText > 8<<20 {
		bad("analyzer.max_text", "analyzer.max_text %s is outside 1KiB to 8MiB", a.MaxText)
	}
	if a.Concurrency < 1 || a.Concurrency > 1024 {
		bad("analyzer.concurrency", "analyzer.concurrency %d is outside 1 to 1024", a.Concurrency)
	}
}
