package mask

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// stepKind is what one segment of a field path matches.
type stepKind uint8

const (
	stepKey   stepKind = iota // this key
	stepIndex                 // this array index
	stepAny                   // * : any one key or index
	stepItems                 // [*] : any one index
	stepDeep                  // ** : any number of keys and indexes, none included
	stepDone                  // the path is complete
)

type step struct {
	kind  stepKind
	key   string
	index int
	rule  int // of stepDone
}

// rootRule marks paths that don't hide but begin a new document.
const rootRule = -2

// blobRule marks paths of files in base64.
const blobRule = -3

// deltaRule marks paths of pieces of longer texts in events.
const deltaRule = -4

const (
	maxPathBytes = 1024
	maxPathSteps = 64
	maxPathIndex = 1<<31 - 1
)

var errEmptySegment = errors.New("an empty segment; remove the extra dot")

// parsePath reads a field path. Its grammar:
//
//	path    = [ "$" ] segment { "." name | bracket }
//	segment = name | bracket
//	name    = "*" | "**" | any characters but . [ ] and quotes
//	bracket = "[" ( "*" | digits | '"' key '"' | "'" key "'" ) "]"
//
// Inside quotes, backslash takes the next character as it is.
func parsePath(p string) ([]step, error) {
	if p == "" {
		return nil, errors.New("is empty; use $ for the whole document")
	}
	if len(p) > maxPathBytes {
		return nil, fmt.Errorf("is longer than %d bytes", maxPathBytes)
	}
	if !utf8.ValidString(p) {
		return nil, errors.New("is not valid UTF-8")
	}
	rest := p
	dollar := false
	if r, ok := strings.CutPrefix(rest, "$"); ok && (r == "" || r[0] == '.' || r[0] == '[') {
		rest, dollar = r, true
	}
	var steps []step
	for first := true; rest != ""; first = false {
		switch {
		case rest[0] == '[':
			s, n, err := parseBracket(rest)
			if err != nil {
				return nil, err
			}
			steps, rest = append(steps, s), rest[n:]
		case rest[0] == '.' || first:
			if rest[0] == '.' {
				if first && !dollar {
					return nil, errEmptySegment
				}
				rest = rest[1:]
			}
			n := strings.IndexAny(rest, ".[]\"'")
			if n < 0 {
				n = len(rest)
			}
			switch name := rest[:n]; name {
			case "":
				return nil, errEmptySegment
			case "*":
				steps = append(steps, step{kind: stepAny})
			case "**":
				// a.**.**.b is a.**.b
				if len(steps) == 0 || steps[len(steps)-1].kind != stepDeep {
					steps = append(steps, step{kind: stepDeep})
				}
			default:
				if strings.Contains(name, "*") {
					return nil, fmt.Errorf("%q: a wildcard stands alone; quote the key if it has a star in its name", name)
				}
				steps = append(steps, step{kind: stepKey, key: name})
			}
			rest = rest[n:]
		default:
			return nil, fmt.Errorf("unexpected %q at byte %d; quote keys that have dots, brackets or quotes: [\"a.b\"]", rest[0], len(p)-len(rest))
		}
		if len(steps) > maxPathSteps {
			return nil, fmt.Errorf("has more than %d segments", maxPathSteps)
		}
	}
	// A trailing ** means all that lies below, so it takes at least one segment.
	if n := len(steps); n > 0 && steps[n-1].kind == stepDeep {
		steps = append(steps, step{kind: stepAny})
	}
	return steps, nil
}

// parseBracket reads [*], [12], ["key"] or ['key'] and tells its length.
func parseBracket(s string) (step, int, error) {
	if len(s) < 3 {
		return step{}, 0, errors.New("an open bracket; close it with ]")
	}
	if q := s[1]; q == '"' || q == '\'' {
		var key strings.Builder
		for i := 2; i < len(s); i++ {
			switch {
			case s[i] == '\\' && i+1 < len(s):
				i++
				key.WriteByte(s[i])
			case s[i] == q:
				if i+1 >= len(s) || s[i+1] != ']' {
					return step{}, 0, errors.New("a quoted key must be followed by ]")
				}
				return step{kind: stepKey, key: key.String()}, i + 2, nil
			default:
				key.WriteByte(s[i])
			}
		}
		return step{}, 0, errors.New("a quoted key without its closing quote")
	}
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return step{}, 0, errors.New("an open bracket; close it with ]")
	}
	in := s[1:end]
	if in == "*" {
		return step{kind: stepItems}, end + 1, nil
	}
	n := 0
	for _, c := range []byte(in) {
		if c < '0' || c > '9' {
			return step{}, 0, fmt.Errorf("[%s] is neither *, an index nor a quoted key", in)
		}
		if n = n*10 + int(c-'0'); n > maxPathIndex {
			return step{}, 0, fmt.Errorf("index %s is too large", in)
		}
	}
	if in == "" {
		return step{}, 0, errors.New("[] is neither *, an index nor a quoted key")
	}
	return step{kind: stepIndex, index: n}, end + 1, nil
}

// pathSet holds all paths of a spec as one non-deterministic automaton whose
// states are positions in steps. A walk keeps the list of live states per depth,
// so a body costs (its members) x (live states), whatever the patterns.
type pathSet struct {
	steps []step // the paths, one after the other, each ended by stepDone
	start []int  // first step of each path
	init  []int  // start and what it reaches without consuming a segment

	indexed bool // some path has an index in it
}

func (ps *pathSet) add(steps []step, rule int) {
	ps.start = append(ps.start, len(ps.steps))
	ps.steps = append(ps.steps, steps...)
	ps.steps = append(ps.steps, step{kind: stepDone, rule: rule})
}

func (ps *pathSet) finish() {
	var none []int
	for _, s := range ps.start {
		none = ps.reach(none, 0, s)
	}
	ps.init = none
	for _, s := range ps.steps {
		ps.indexed = ps.indexed || s.kind == stepIndex
	}
}

// names are those that some path has: to all others the paths are the same.
func (ps *pathSet) names() map[string]bool {
	in := map[string]bool{}
	for _, s := range ps.steps {
		if s.kind == stepKey {
			in[s.key] = true
		}
	}
	return in
}

// reach appends state s to live, and the states it stands for: ** also stands
// for what follows it. States from position base on are kept unique.
func (ps *pathSet) reach(live []int, base, s int) []int {
	for {
		if slices.Contains(live[base:], s) {
			return live
		}
		live = append(live, s)
		if ps.steps[s].kind != stepDeep {
			return live
		}
		s++
	}
}

// advance appends to live the states that those in live[from:to] reach over one
// segment: key, or the array index where key is nil.
func (ps *pathSet) advance(live []int, from, to int, key []byte, index int) []int {
	base := len(live)
	for _, s := range live[from:to] {
		st := &ps.steps[s]
		switch st.kind {
		case stepDeep:
			live = ps.reach(live, base, s)
			continue
		case stepKey:
			if key == nil || st.key != string(key) {
				continue
			}
		case stepIndex:
			if key != nil || st.index != index {
				continue
			}
		case stepItems:
			if key != nil {
				continue
			}
		case stepAny:
		case stepDone:
			continue
		}
		live = ps.reach(live, base, s+1)
	}
	return live
}
