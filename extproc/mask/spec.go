package mask

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/callgate/callgate/extproc/mask/ff1"
)

// Spec says what to hide. It is plain data: it travels as JSON inside Envoy's
// dynamic metadata from the decision to the response, so it stays small and
// survives a round trip through JSON unchanged.
type Spec struct {
	// Rules all apply. Where several hit the same value the strictest wins
	// (drop, then redact, hash, token, partial), so that adding a rule never shows more.
	Rules []Rule `json:"rules"`

	// Roots are paths at which the function's own document begins, besides the
	// body itself and every JSON document held in a string: an MCP connection
	// has "result" and "result.structuredContent", so that the path
	// "customer.card" means the same for a tool as for a REST answer.
	Roots []string `json:"roots,omitempty"`

	// Blobs are paths of files in base64. One that is text is masked as text, as
	// all base64 of text is; any other is hidden, since it can't be searched.
	Blobs []string `json:"blobs,omitempty"`

	// Texts are paths in events at which a piece of a longer text stands, beside
	// those of well-known APIs: a value may be cut in two between two events. "$"
	// is data that is such a text itself, as it is or as a JSON string.
	Texts []string `json:"texts,omitempty"`
}

// Rule hides every value that one of its paths, keys or detectors names.
type Rule struct {
	// Name is reported with each finding. Required.
	Name string `json:"name"`

	// Paths are field paths: "customer.card.number", "items[*].iban",
	// "items[0].iban", "**.password", `["key.with.dots"].x`, "$" for the whole
	// document. Keys are case-sensitive; * is any one key or index, [*] any
	// index, ** any number of them. A path that ends at an object or array
	// hides all of it.
	Paths []string `json:"paths,omitempty"`

	// Keys are key names at any depth. Case, '_', '-', '.' and spaces don't
	// count: "cardNumber" is "card_number". The whole value is hidden, be it an
	// object or an array. In text they hide name=value, name: value and <name>value</name>.
	Keys []string `json:"keys,omitempty"`

	// Detect names detectors: see [Detectors], and custom ones, by what
	// [Options].Custom knows them as.
	Detect []string `json:"detect,omitempty"`

	// How is one of "redact" (also the empty string), "partial", "token", "hash", "drop".
	How string `json:"how,omitempty"`
}

// How values of a rule, from the most to the least that the caller still sees.
const (
	Partial = "partial" // last four characters; an e-mail's domain
	Token   = "token"   // another value of the same form, by NIST FF1: joinable, reversible with the key
	Hash    = "hash"    // HMAC-SHA256 of the value, 128 bits: joinable, not reversible
	Redact  = "redact"  // a fixed text that names the detector
	Drop    = "drop"    // the member or element is removed; a match in text is cut out
)

// how orders the How values by strictness.
type how uint8

const (
	howNone how = iota
	howPartial
	howToken
	howHash
	howRedact
	howDrop
)

// Options bound the work and supply the key. The zero value works for specs
// without "hash".
type Options struct {
	// HashKey keys Hash and Token; at least 16 bytes where a rule uses them. The
	// same key gives the same hash, which is what makes hashes joinable.
	HashKey []byte

	// Custom are the detectors of the user's own, by the name that rules have
	// for them.
	Custom map[string]*Custom

	// MaxDepth bounds nesting of objects and arrays in one document.
	// Zero means 256.
	MaxDepth int

	// MaxNested bounds JSON documents inside strings inside documents.
	// Zero means 4.
	MaxNested int

	// MaxFindings bounds the distinct findings of one call; further places are
	// counted under the path "...". Zero means 128.
	MaxFindings int
}

// Finding reports what was hidden and where, never the value.
type Finding struct {
	Rule   string `json:"rule"`             // the rule's name
	Type   string `json:"type"`             // a detector, "path", "key", or "unreadable"
	Detail string `json:"detail,omitempty"` // which API key, for example "github_token"
	Path   string `json:"path"`             // array indexes are [*]; empty for plain text
	Count  int    `json:"count"`
}

// Finding types that are not detectors.
const (
	typePath = "path"
	typeKey  = "key"
	// typeUnreadable is a string that begins like JSON, is not, and had to be
	// hidden whole since field paths might have named a part of it.
	typeUnreadable = "unreadable"
	// typeBinary is a file that is no text.
	typeBinary = "binary"
)

// Errors that callers branch on with errors.Is. Each means: nothing was masked,
// withhold the response.
var (
	// ErrInvalid is a body that is not what it claims: broken JSON, wrong UTF-8,
	// trailing data, an encoding other than UTF-8.
	ErrInvalid = errors.New("body is not valid")
	// ErrTooDeep is nesting over MaxDepth or MaxNested.
	ErrTooDeep = errors.New("body is nested too deeply")
	// ErrTooLarge is an event or line over the stream's limit, or a body over
	// 2 GiB.
	ErrTooLarge = errors.New("body is too large to mask")
)

// Masker applies one Spec. It is immutable and safe for concurrent use.
type Masker struct {
	names []string // by rule index
	hows  []how    // by rule index
	paths pathSet
	// eventPaths has the places of pieces of longer texts, too.
	eventPaths  pathSet
	plainEvents bool // data is a piece of a longer text itself
	hasPaths    bool
	plain       *Masker             // for what has no fields, where there are paths; see fieldless
	nameless    bool                // a path has no name that could stand in text
	pathNames   map[string]bool     // names that paths have
	aliases     map[string][]string // see Renamed
	pathRule    int                 // the strictest rule that has paths, for typeUnreadable
	keys        map[string]int      // normalised key name to rule index
	det         engine
	detRule     [detCount]int // rule index by detector, -1 when off
	scratch     *sync.Pool    // of *scratch, of calls that are over
	cipher      *ff1.Cipher   // of tokens, nil where no rule makes them

	ctx context.Context // of the call, where there are analyzers to ask

	hashKey     []byte
	maxDepth    int
	maxNested   int
	maxFindings int
}

// Bounds on a spec, so that a policy can't make masking slow by accident.
const (
	maxRules     = 256
	maxSteps     = 4096 // path segments over all rules
	maxKeyLength = 64   // bytes of a normalised key name
	minHashKey   = 16
)

// Compile checks the spec and prepares it. Every error is reported, joined, each
// with the rule's name.
func Compile(spec Spec, opt Options) (*Masker, error) {
	m := &Masker{
		keys:        make(map[string]int),
		scratch:     new(sync.Pool),
		pathRule:    -1,
		hashKey:     slices.Clone(opt.HashKey),
		maxDepth:    orDefault(opt.MaxDepth, 256),
		maxNested:   orDefault(opt.MaxNested, 4),
		maxFindings: orDefault(opt.MaxFindings, 128),
	}
	for d := range m.detRule {
		m.detRule[d] = -1
	}
	if len(spec.Rules) > maxRules {
		return nil, fmt.Errorf("mask spec: %d rules, at most %d", len(spec.Rules), maxRules)
	}
	var errs []error
	var on detSet
	for i, r := range spec.Rules {
		name := r.Name
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("mask rule %q: %w", name, fmt.Errorf(format, args...)))
		}
		if name == "" {
			name = fmt.Sprintf("#%d", i+1)
			bad("has no name; give it one, it is what findings report")
		}
		h, ok := parseHow(r.How)
		if !ok {
			bad("unknown how %q; use redact, partial, token, hash or drop", r.How)
		}
		switch {
		case h != howHash && h != howToken:
		case len(m.hashKey) < minHashKey:
			bad("how: %s needs a hash key of at least %d bytes, got %d", r.How, minHashKey, len(m.hashKey))
		case h == howToken && m.cipher == nil:
			m.cipher = tokenCipher(m.hashKey)
		}
		if len(r.Paths)+len(r.Keys)+len(r.Detect) == 0 {
			bad("has no paths, keys or detect, so it would hide nothing")
		}
		m.names = append(m.names, name)
		m.hows = append(m.hows, h)

		for _, p := range r.Paths {
			steps, err := parsePath(p)
			if err != nil {
				bad("path %q: %w", p, err)
				continue
			}
			m.paths.add(steps, i)
			m.hasPaths = true
			m.pathRule = m.stricter(m.pathRule, i)
		}
		keys := func(of []string) {
			for _, k := range of {
				n := normalKey(nil, []byte(k))
				switch {
				case len(n) == 0:
					bad("key %q has no letter or digit", k)
					continue
				case len(n) > maxKeyLength:
					bad("key %q is longer than %d bytes", k, maxKeyLength)
					continue
				}
				if old, ok := m.keys[string(n)]; ok {
					m.keys[string(n)] = m.stricter(old, i)
				} else {
					m.keys[string(n)] = i
				}
			}
		}
		keys(r.Keys)
		for _, name := range r.Detect {
			if c := opt.Custom[name]; c != nil {
				keys(c.keys)
				if m.det.custom == nil {
					m.det.custom = new(customTable)
				}
				m.det.custom.add(c, i)
				continue
			}
			set, region, ok := named(name)
			if !ok {
				bad("unknown detector %q; known are %s, and those of your own under detectors", name, knownNames())
				continue
			}
			if region != "" && !slices.Contains(m.det.regions, region) {
				m.det.regions = append(m.det.regions, region)
			}
			on |= set
			for d := range detCount {
				if set.has(d) {
					m.detRule[d] = m.stricter(m.detRule[d], i)
				}
			}
		}
	}
	for _, p := range spec.Roots {
		steps, err := parsePath(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("mask root %q: %w", p, err))
			continue
		}
		m.paths.add(steps, rootRule)
	}
	for _, p := range spec.Blobs {
		steps, err := parsePath(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("mask blob %q: %w", p, err))
			continue
		}
		m.paths.add(steps, blobRule)
	}
	if n := len(m.paths.steps); n > maxSteps {
		errs = append(errs, fmt.Errorf("mask spec: paths have %d segments together, at most %d", n, maxSteps))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	m.paths.finish()
	m.eventPaths.steps, m.eventPaths.start = slices.Clone(m.paths.steps), slices.Clone(m.paths.start)
	for _, p := range slices.Concat(deltas, spec.Texts) {
		steps, err := parsePath(p)
		if err != nil {
			return nil, fmt.Errorf("text of events %q: %w", p, err)
		}
		m.eventPaths.add(steps, deltaRule)
		m.plainEvents = m.plainEvents || p == plainData
	}
	m.eventPaths.finish()
	m.pathNames = m.eventPaths.names() // the others' too
	m.det.init(on, len(m.keys) > 0)
	if m.hasPaths {
		m.nameless = m.compileFieldless(spec, opt)
	}
	return m, nil
}

// HasPaths tells whether some rule names field paths, which only JSON (and
// messages walked by the caller) can honour. A caller with any other type of
// body decides whether to withhold it.
func (m *Masker) HasPaths() bool { return m.hasPaths }

// stricter returns the index of the stricter of two rules; -1 is no rule, and
// the earlier one wins a tie.
func (m *Masker) stricter(a, b int) int {
	if a < 0 {
		return b
	}
	if b < 0 || m.hows[a] >= m.hows[b] {
		return a
	}
	return b
}

func parseHow(s string) (how, bool) {
	switch s {
	case "", Redact:
		return howRedact, true
	case Partial:
		return howPartial, true
	case Token:
		return howToken, true
	case Hash:
		return howHash, true
	case Drop:
		return howDrop, true
	}
	return howRedact, false
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}
