package mask

import (
	"bytes"
	"math"
)

// secretReach is how far a pattern sees. A longer token is hidden to its end.
const secretReach = 512

// literal looks for what has a literal whose anchor is at i; i+1 means none.
func (s *scanner) literal(i int) int {
	if t := s.e.sec; t != nil {
		upto, from := t.literals.candidates(s.b, i)
		for _, chain := range [2][]uint16{upto, from} {
			for _, n := range chain {
				l := &t.literals.list[n]
				at, ok := l.stands(s.b, i)
				if !ok || at < s.floor() {
					continue
				}
				if end := s.secret(&t.rules[l.rule], at, len(l.text)); end > 0 {
					return end
				}
			}
		}
	}
	if s.e.custom != nil {
		s.e.custom.literal(s, i)
	}
	return i + 1
}

// secret runs a rule where its literal stands, and returns the end of what it
// found, or 0.
func (s *scanner) secret(r *secretRule, i, literal int) int {
	b := s.b
	if !s.e.on.has(r.det) || r.bounded && i > 0 && isToken(b[i-1]) {
		return 0
	}
	from, to := i, 0
	switch {
	case r.det == detJWT:
		to = s.jwt(i)
	case r.pattern == "":
		to = keyBlockEnd(b, i, r.name)
	default:
		base := max(s.floor(), i-r.before)
		w := b[base:min(len(b), i+secretReach)]
		if r.needs != 0 {
			at := bytes.IndexByte(w, r.needs)
			if at < 0 || r.noBlank && bytes.IndexByte(w[:at], ' ') >= 0 {
				return 0
			}
		}
		m := r.re().FindSubmatchIndex(w)
		if m == nil || m[2*r.group] < 0 || base+m[1] <= i {
			return 0
		}
		from, to = base+m[2*r.group], base+m[2*r.group+1]
		if to == base+len(w) {
			for to < len(b) && isToken(b[to]) {
				to++
			}
		}
		if r.entropy > 0 && entropy(b[from:to]) < r.entropy {
			return 0
		}
	}
	if to <= from || to < i {
		return 0
	}
	det, detail := r.det, r.name
	if s.e.on.has(detJWT) && det == detAPIKey && hasPrefix(b[from:], "eyJ") && s.jwt(from) > 0 {
		det, detail = detJWT, "jwt" // in an Authorization header
	}
	return s.found(match{start: from, end: to, det: det, detail: detail})
}

// entropy is Shannon's, in bits a byte.
func entropy(b []byte) float64 {
	var count [256]int
	for _, c := range b {
		count[c]++
	}
	h := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(b))
			h -= p * math.Log2(p)
		}
	}
	return h
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

// maxSecret is the length of the longest secret that only its name tells, in bytes.
const maxSecret = 1024

// keyedFor returns the detail of the credential that a value is, filed under a
// name: by the rules that go by names, or since it looks random.
func (s *scanner) keyedFor(info *nameInfo, value []byte) (det detector, detail string, ok bool) {
	if len(value) < 8 || len(value) > maxSecret {
		return 0, "", false
	}
	if s.e.on.has(detAPIKey) {
		for _, n := range info.secrets {
			r := &s.e.sec.keyed[n]
			if r.re().Match(value) && (r.entropy == 0 || entropy(value) >= r.entropy) {
				return detAPIKey, r.name, true
			}
		}
	}
	if info.telling && s.e.on.has(detKeyedSecret) && random(value) {
		return detKeyedSecret, "", true
	}
	return 0, "", false
}

// random tells whether a text looks like a secret that nobody could guess: letters
// and digits, or both cases, with hardly a character twice.
func random(v []byte) bool {
	var digits, lower, upper, other int
	for _, c := range v {
		switch {
		case isDigit(c):
			digits++
		case c >= 'a' && c <= 'z':
			lower++
		case c >= 'A' && c <= 'Z':
			upper++
		case c <= ' ' || c >= 0x7F:
			return false // prose
		default:
			other++
		}
	}
	mixed := digits > 0 && lower+upper > 0 || len(v) >= 20 && lower > 2 && upper > 2
	if !mixed || other > len(v)/3 || bytes.Contains(v, []byte("://")) || v[0] == '$' || v[0] == '[' || v[0] == '{' || v[0] == '<' {
		return false // a number, a word, a URL, what stands for something
	}
	return entropy(v) >= math.Min(3, 0.85*math.Log2(float64(len(v))))
}

// keyedValue hides a whole value that its name tells is a secret.
func (s *scanner) keyedValue() {
	f := &s.names[len(s.names)-1]
	if f.kind != frameKey || !f.info.telling && f.info.secrets == nil {
		return
	}
	if det, detail, ok := s.keyedFor(f.info, s.b); ok {
		s.found(match{start: 0, end: len(s.b), det: det, detail: detail})
	}
}
