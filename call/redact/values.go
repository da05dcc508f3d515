package redact

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shape is what a kind of credential looks like, whatever it is called.
type shape struct {
	literal string         // how it begins
	rest    *regexp.Regexp // what follows, anchored there
	inWord  bool           // it may begin in the middle of a word
}

// shapes holds what is common; extproc/mask has detectors for bodies.
var shapes = compile(
	[]string{"eyJ"}, `[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)+`, // JWS, JWE
	[]string{"AKIA", "ASIA", "ABIA", "ACCA"}, `[A-Z2-7]{16,}`,
	[]string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, `[A-Za-z0-9_]{20,}`,
	[]string{"glpat-", "gldt-", "glrt-", "glptt-"}, `[A-Za-z0-9_.-]{16,}`,
	[]string{"xoxa-", "xoxb-", "xoxe-", "xoxe.", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"}, `[A-Za-z0-9.-]{10,}`,
	[]string{"sk_live_", "sk_test_", "rk_live_", "rk_test_"}, `[A-Za-z0-9]{10,}`,
	[]string{"sk-", "GOCSPX-", "ya29.", "SG.", "hvs.", "hvb.", "dckr_pat_", "pypi-AgE"}, `[A-Za-z0-9_.-]{20,}`,
	[]string{"AIza"}, `[A-Za-z0-9_-]{30,}`,
	[]string{"whsec_", "npm_", "hf_", "glsa_", "gsk_"}, `[A-Za-z0-9+/=_]{20,}`,
	[]string{"doo_v1_", "dop_v1_", "dor_v1_", "dapi", "shpat_", "shpca_", "shppa_", "shpss_"}, `[A-Fa-f0-9]{24,}`,
	[]string{"-----BEGIN "}, `[A-Z ]*PRIVATE KEY(?s:.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z))`,
	[]string{"://"}, `[^\s/:@"'<>]{0,64}:[^\s/@"'<>]{1,128}@`, // the password in a URL
)

// withinWords says by their first byte which shapes may begin inside a word.
var withinWords = func() (out [256]bool) {
	for b, list := range shapes {
		out[b] = slices.ContainsFunc(list, func(s shape) bool { return s.inWord })
	}
	return out
}()

// compile lists the shapes by their first byte.
func compile(table ...any) (byFirst [256][]shape) {
	for i := 0; i < len(table); i += 2 {
		rest := regexp.MustCompile(`\A` + table[i+1].(string))
		for _, l := range table[i].([]string) {
			byFirst[l[0]] = append(byFirst[l[0]], shape{literal: l, rest: rest, inWord: l == "://" || l[0] == '-'})
		}
	}
	return byFirst
}

// schemes begin a value of the authorization header, and are told from prose
// only there; bearer anywhere.
var schemes = words("basic digest negotiate ntlm dpop hawk token apikey api-key signature sharedkey googlelogin aws4-hmac-sha256")

// find returns where credentials are in text, by their looks: pairs of start
// and end, in order.
func find(text string) (at [][2]int) {
	noJWT := 0 // none begins before
	for i := 0; i < len(text); {
		n := 0
		list := shapes[text[i]]
		// Most bytes of a text stand in words, where nearly nothing begins.
		inside := (list != nil || text[i]|0x20 == 'b') && endsWord(text[:i])
		if list == nil && text[i]|0x20 != 'b' || inside && !withinWords[text[i]] {
			i++
			continue
		}
		for _, s := range list {
			if inside && !s.inWord {
				continue
			}
			jwt := s.literal == "eyJ"
			if jwt && i < noJWT || !strings.HasPrefix(text[i:], s.literal) {
				continue
			}
			if m := s.rest.FindStringIndex(text[i+len(s.literal):]); m != nil {
				n = len(s.literal) + m[1]
				break
			}
			if jwt {
				// Its first part is no JWT's, nor is any end of that; so each
				// byte is looked at once.
				for noJWT = i; noJWT < len(text) && inToken(text[noJWT]); noJWT++ {
				}
			}
		}
		if text[i]|0x20 == 'b' && !inside && len(text)-i > len("bearer") && strings.EqualFold(text[i:i+len("bearer")], "bearer") {
			if m := token(text[i+len("bearer"):]); m > 0 {
				n = len("bearer") + m
			}
		}
		if n > 0 {
			at = append(at, [2]int{i, i + n})
		}
		i += max(n, 1)
	}
	begin := len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
	if end := strings.IndexFunc(text[begin:min(len(text), begin+32)], unicode.IsSpace); end > 0 && schemes[strings.ToLower(text[begin:begin+end])] && token(text[begin+end:]) > 0 {
		at = append(at, [2]int{begin, len(text)})
	}
	slices.SortFunc(at, func(a, b [2]int) int { return cmp.Compare(a[0], b[0]) })
	return at
}

// token is how long the blanks and the word of four bytes or more are that
// text begins with; 0 where it does not.
func token(text string) int {
	rest := strings.TrimLeftFunc(text, unicode.IsSpace)
	end := strings.IndexFunc(rest, unicode.IsSpace)
	if end < 0 {
		end = len(rest)
	}
	if len(rest) == len(text) || end < 4 {
		return 0
	}
	return len(text) - len(rest) + end
}

func inToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func endsWord(s string) bool {
	if s == "" {
		return false
	}
	if b := s[len(s)-1]; b < utf8.RuneSelf {
		return b != '-' && inToken(b)
	}
	r, _ := utf8.DecodeLastRuneInString(s)
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_')
}

// shaped hides what looks like a credential in text.
func (r *Redactor) shaped(text string) string {
	hidden, _ := replaced(text, r.Secret)
	return hidden
}

// Hide puts a word in the place of each credential that text has in it, by their
// looks, and tells how many there were.
func Hide(text, word string) (string, int) {
	return replaced(text, func(string) string { return word })
}

func replaced(text string, by func(string) string) (string, int) {
	at := find(text)
	if at == nil {
		return text, 0
	}
	var b strings.Builder
	done, n := 0, 0
	for i := 0; i < len(at); i++ {
		start, end := at[i][0], at[i][1]
		for ; i+1 < len(at) && at[i+1][0] < end; i++ { // one in another
			end = max(end, at[i+1][1])
		}
		b.WriteString(text[done:start])
		b.WriteString(by(text[start:end]))
		done = end
		n++
	}
	b.WriteString(text[done:])
	return b.String(), n
}

// levels are a text and what it is once its escapes are resolved, once and
// more often; deep says that there was no end of it.
func levels(s string) (list []string, deep bool) {
	list = []string{s}
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return list, false
	}
	for range 4 {
		last := list[len(list)-1]
		plain, err := url.QueryUnescape(last)
		if err != nil || plain == last {
			return list, false
		}
		list = append(list, plain)
	}
	last := list[len(list)-1]
	plain, err := url.QueryUnescape(last)
	return list, err == nil && plain != last
}

// carries reports whether a value has a credential in it.
func carries(value string) bool {
	list, deep := levels(value)
	if deep {
		return true
	}
	for _, v := range list {
		if find(v) != nil || assigns(v) {
			return true
		}
	}
	return false
}

// assigns reports whether a text gives a value to a credential's name, as the
// query of a URL in it, a cookie, or a document does.
func assigns(text string) bool {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '=':
		case ':':
			if i == 0 || text[i-1] != '"' && text[i-1] != '\'' {
				continue // prose
			}
		default:
			continue
		}
		before := strings.TrimRight(text[:i], "\"' ")
		start := len(before)
		for start > 0 && len(before)-start < 64 && strings.IndexByte("?&;#,{[(\"' \t\r\n=:/", before[start-1]) < 0 {
			start--
		}
		if len(before)-start < 3 {
			continue
		}
		if after := strings.TrimLeft(text[i+1:], "\"' "); after != "" && after[0] != '&' && strongOrToken(before[start:]) {
			return true
		}
	}
	return false
}

// strongOrToken is strongName for a text that is no document: "token" by
// itself is no prose there.
func strongOrToken(name string) bool { return strongName(name) || fold(name) == "token" }
