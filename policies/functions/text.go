package functions

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/mtibben/confusables"
	"golang.org/x/text/unicode/norm"
)

// textFunctions look at texts as those do who are meant to be tricked by them.
func textFunctions() []cel.EnvOption {
	var patterns sync.Map // string → *regexp.Regexp; rules hold them all, so rules bound them
	return []cel.EnvOption{
		ofTextAndList("text.matchesAny", cel.BoolType, func(s string, list []string) ref.Val {
			for _, p := range list {
				re, known := patterns.Load(p)
				if !known {
					compiled, err := regexp.Compile(p)
					if err != nil {
						return types.NewErr("text.matchesAny: %v", err)
					}
					re, _ = patterns.LoadOrStore(p, compiled)
				}
				if re.(*regexp.Regexp).MatchString(s) {
					return types.True
				}
			}
			return types.False
		}),
		ofTextAndList("text.containsAny", cel.BoolType, func(s string, list []string) ref.Val {
			in := normalize(s)
			for _, word := range list {
				if strings.Contains(in, normalize(word)) {
					return types.True
				}
			}
			return types.False
		}),
		ofText("text.normalize", cel.StringType, func(s string) ref.Val { return types.String(normalize(s)) }),
		ofText("text.decode", cel.ListType(cel.StringType), func(s string) ref.Val {
			layers, all := decode(s)
			if !all {
				return types.NewErr("text.decode: more is encoded in the text than can be looked at")
			}
			return listOf(layers)
		}),
		ofText("text.entropy", cel.DoubleType, func(s string) ref.Val { return types.Double(entropy(s)) }),
	}
}

// normalize makes texts that look alike equal: compatibility forms become plain
// (NFKC), letters that look like Latin ones become those (UTS #39), marks that
// nobody sees go, white space is one space, and capitals are small.
func normalize(s string) string {
	plain := true
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if !plain {
		s = strings.ToLower(unseen(norm.NFKC.String(s)))
		// Only what is not ASCII is looked up: a skeleton makes one of 1 and l
		// and the like, which here are told apart.
		var b strings.Builder
		for _, r := range s {
			if r < utf8.RuneSelf {
				b.WriteRune(r)
			} else {
				b.WriteString(lookalike(r))
			}
		}
		s = norm.NFKC.String(b.String())
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = true
			continue
		case hidden(r):
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// lookalikes remembers what characters of the basic plane look like.
var lookalikes [1 << 16]atomic.Pointer[string]

func lookalike(r rune) string {
	if int(r) >= len(lookalikes) {
		return confusables.Skeleton(string(r))
	}
	if s := lookalikes[r].Load(); s != nil {
		return *s
	}
	s := confusables.Skeleton(string(r))
	lookalikes[r].Store(&s)
	return s
}

func unseen(s string) string {
	return strings.Map(func(r rune) rune {
		if hidden(r) {
			return -1
		}
		return r
	}, s)
}

// hidden are characters that change how a text looks or is ordered and are not
// seen themselves: joiners, direction marks, variation selectors, tags.
func hidden(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f
	case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Mn, r) && r >= 0xfe00 && r <= 0xfe0f, r >= 0xe0100 && r <= 0xe01ef:
		return true
	case r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0, r == 0x034f, r == 0x17b4, r == 0x17b5:
		return true // fillers
	}
	return false
}

// The bounds of decode.
const (
	layersDeep = 4
	layersMost = 512
	// layersSum is the most of all layers together, in bytes, beyond the text
	// itself layersTimes.
	layersTimes = 12
	layersSum   = 256 << 10
)

// decode peels encodings off a text, one inside another: percent escapes, HTML
// entities, backslash escapes, base64 and hexadecimal, of the whole and of words
// inside it. It returns the text and all that was found in it, each once, and
// each in its normal form too where that differs. all is false where there is more
// in it than the bounds allow: then nobody can tell what it says.
func decode(s string) (out []string, all bool) {
	out, all = []string{s}, true
	seen := map[string]bool{s: true}
	left := layersTimes*len(s) + layersSum
	add := func(t string) {
		if !utf8.ValidString(t) {
			t = repaired(t)
		}
		if t != "" && !seen[t] {
			if len(t) > left || len(out) >= layersMost {
				all = false
				return
			}
			seen[t] = true
			left -= len(t)
			out = append(out, t)
		}
	}
	for from, depth := 0, 0; depth < layersDeep && from < len(out); depth++ {
		layer := out[from:]
		from = len(out)
		for _, t := range layer {
			for _, peel := range []func(string) string{percent, html.UnescapeString, escapes} {
				add(peel(t))
			}
			for _, word := range words(t) {
				for _, found := range binary(word) {
					add(found)
				}
			}
			if joined := concatenated(t); joined != t {
				add(joined)
			}
		}
	}
	for _, t := range out[:len(out):len(out)] {
		add(normalize(t))
	}
	add(unseen(norm.NFKC.String(s)))
	return out, all
}

// repaired reads bytes as a lenient decoder would: overlong forms of ASCII mean
// that character, and what is left over is marked.
func repaired(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if (s[i] == 0xc0 || s[i] == 0xc1) && i+1 < len(s) && s[i+1]&0xc0 == 0x80 {
			b.WriteByte(s[i]&1<<6 | s[i+1]&0x3f)
			i++
			continue
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func percent(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if t, err := url.QueryUnescape(s); err == nil {
		return t
	}
	// Those that are escapes are taken, the rest stays.
	return escaped.ReplaceAllStringFunc(s, func(e string) string {
		b, err := hex.DecodeString(e[1:])
		if err != nil {
			return e
		}
		return string(b)
	})
}

var (
	escaped   = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	backslash = regexp.MustCompile(`\\u\{[0-9A-Fa-f]{1,6}\}|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\x[0-9A-Fa-f]{2}|\\[0-7]{3}`)
	wordForm  = regexp.MustCompile(`[A-Za-z0-9+/_-]{8,}={0,2}`)
	adjacent  = regexp.MustCompile(`['"]\s*(\|\||\+|\.\.?|\s)\s*['"]|''|""|\$\{IFS\}|\$IFS|\$@|\\\n`)
)

// escapes reads \xHH, \uHHHH, \u{H}, \UHHHHHHHH and \OOO.
func escapes(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return backslash.ReplaceAllStringFunc(s, func(e string) string {
		digits, base := strings.Trim(e[2:], "{}"), 16
		if e[1] >= '0' && e[1] <= '7' {
			digits, base = e[1:], 8
		}
		n, err := strconv.ParseUint(digits, base, 32)
		if err != nil || n > unicode.MaxRune {
			return e
		}
		return string(rune(n))
	})
}

// words are parts that could be base64 or hexadecimal.
func words(s string) []string { return wordForm.FindAllString(s, -1) }

// binary is what a word says in base64 or hexadecimal, where that is text.
func binary(word string) []string {
	var out []string
	take := func(b []byte, err error) {
		if err == nil && len(b) > 3 && readable(b) {
			out = append(out, string(b))
		}
	}
	bare := strings.TrimRight(word, "=")
	take(base64.RawStdEncoding.DecodeString(bare))
	take(base64.RawURLEncoding.DecodeString(bare))
	if len(word)%2 == 0 {
		take(hex.DecodeString(word))
	}
	return out
}

// readable tells text from bytes that happen to decode.
func readable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == utf8.RuneError || !unicode.IsGraphic(r) && !unicode.IsSpace(r) && !hidden(r) {
			return false
		}
	}
	return true
}

// concatenated takes out what shells and databases put between the parts of a
// word that was split: quotes side by side, + and ||, ${IFS}.
func concatenated(s string) string {
	return adjacent.ReplaceAllStringFunc(s, func(e string) string {
		if strings.HasPrefix(e, "$") {
			return " "
		}
		return ""
	})
}

// entropy is Shannon's, in bits a character.
func entropy(s string) float64 {
	counts, n := map[rune]float64{}, 0.0
	for _, r := range s {
		counts[r]++
		n++
	}
	var h float64
	for _, c := range counts {
		p := c / n
		h -= p * math.Log2(p)
	}
	return h
}
