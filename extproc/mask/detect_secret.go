package mask

import (
	"bytes"
	"regexp"
	"sync"
)

// secretTable is secretRules prepared for the scan: immutable, and shared by all
// maskers, since compiling the patterns costs more than most bodies.
type secretTable struct {
	rules  []compiledSecret
	bucket [4096]uint8 // by hash of three bytes, 1 + index into lists; 0 none
	lists  [][]uint8   // rule indexes
}

type compiledSecret struct {
	secretRule
	re *regexp.Regexp
}

var secrets = sync.OnceValue(func() *secretTable {
	t := new(secretTable)
	for _, r := range secretRules() {
		c := compiledSecret{secretRule: r}
		if r.pattern != "" {
			c.re = regexp.MustCompile(`\A(?:` + r.pattern + `)`)
		}
		h := trigram(r.literal[0], r.literal[1], r.literal[2])
		if t.bucket[h] == 0 {
			t.lists = append(t.lists, nil)
			t.bucket[h] = uint8(len(t.lists))
		}
		l := &t.lists[t.bucket[h]-1]
		*l = append(*l, uint8(len(t.rules)))
		t.rules = append(t.rules, c)
	}
	return t
})

func trigram(a, b, c byte) uint32 {
	return (uint32(a) | uint32(b)<<8 | uint32(c)<<16) * 0x9E3779B1 >> 20
}

// secretReach is how far a pattern sees. A longer token is hidden to its end.
const secretReach = 512

// secret looks for a credential whose literal begins at i, where the trigram is
// one of the table's; i+1 means none.
func (s *scanner) secret(i int) int {
	b := s.b
	t := s.e.sec
	l := t.bucket[trigram(b[i], b[i+1], b[i+2])]
	for _, n := range t.lists[l-1] {
		r := &t.rules[n]
		if !s.e.on.has(r.det) || !hasPrefix(b[i:], r.literal) {
			continue
		}
		if r.bounded && i > 0 && isToken(b[i-1]) {
			continue
		}
		from, to := i, 0
		switch {
		case r.det == detJWT:
			to = s.jwt(i)
		case r.re == nil:
			to = keyBlockEnd(b, i, r.name)
		default:
			w := b[i:min(len(b), i+secretReach)]
			if r.needs != 0 && bytes.IndexByte(w, r.needs) < 0 {
				continue
			}
			m := r.re.FindSubmatchIndex(w)
			switch {
			case m == nil:
				continue
			case len(m) > 2:
				from, to = i+m[2], i+m[3]
			default:
				to = i + m[1]
				if m[1] == len(w) {
					for to < len(b) && isToken(b[to]) {
						to++
					}
				}
			}
		}
		if to > from {
			return s.found(match{start: from, end: to, det: r.det, detail: r.name})
		}
	}
	return i + 1
}

// isToken tells whether c may stand in the middle of a token.
func isToken(c byte) bool { return isAlnum(c) || c == '_' || c == '-' }

func hasPrefix(b []byte, s string) bool {
	return len(b) >= len(s) && string(b[:len(s)]) == s
}

// jwt returns the end of the JWS or JWE (RFC 7515, 7516) that begins at i, or 0: a
// header, and two or four more base64url parts, of which some may be empty. Where
// none begins, none begins later in the same part either, and s.noJWT remembers
// that, so that each byte is looked at once.
func (s *scanner) jwt(i int) int {
	b := s.b
	if i < s.noJWT {
		return 0
	}
	var start, end [5]int
	parts := 0
	for at := i; parts < 5; at++ {
		start[parts] = at
		for at < len(b) && isToken(b[at]) {
			at++
		}
		end[parts] = at
		parts++
		if at >= len(b) || b[at] != '.' {
			break
		}
	}
	size := func(k int) int { return end[k] - start[k] }
	switch {
	case size(0) < 4:
	case parts == 5 && size(2) > 0 && size(3) > 0 && size(4) > 0:
		return end[4]
	case parts >= 3 && size(1) >= 4:
		return end[2]
	}
	s.noJWT = end[0]
	return 0
}

// keyBlockEnd returns the end of the private key block that begins at i, or 0. A
// block without its end line is hidden to the end of the text: the rest of the
// key may be all that there is.
func keyBlockEnd(b []byte, i int, form string) int {
	if form == "putty" {
		if n := bytes.Index(b[i:], []byte("Private-MAC:")); n >= 0 {
			end := i + n
			for end < len(b) && b[end] != '\n' {
				end++
			}
			return end
		}
		return len(b)
	}
	head := b[i+len("-----BEGIN"):]
	head = head[:min(len(head), 64)]
	n := bytes.Index(head, []byte("PRIVATE KEY"))
	if n < 0 || bytes.IndexByte(head[:n], '\n') >= 0 {
		return 0
	}
	n += i + len("-----BEGIN")
	end := bytes.Index(b[n:], []byte("-----END"))
	if end < 0 {
		return len(b)
	}
	end += n + len("-----END")
	for dashes := 0; end < len(b) && dashes < 5 && b[end] != '\n'; end++ {
		if b[end] == '-' {
			dashes++
		}
	}
	return end
}

// keyedSecret hides a secret that has no form of its own but is filed under a
// telling name: an AWS secret access key is forty characters of base64.
func (s *scanner) keyedSecret() {
	if len(s.b) != 40 || len(s.names) == 0 || len(s.matches) > 0 || !s.e.on.has(detAPIKey) {
		return
	}
	for _, c := range s.b {
		if !isAlnum(c) && c != '/' && c != '+' {
			return
		}
	}
	if k := normalKey(nil, s.names[len(s.names)-1].key); contains(k, "secretaccesskey") || contains(k, "secretkey") || contains(k, "awssecret") {
		s.found(match{start: 0, end: len(s.b), det: detAPIKey, detail: "aws_secret_access_key"})
	}
}
