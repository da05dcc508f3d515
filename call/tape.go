package call

import (
	"crypto/sha256"
	"hash"
)

// Tape records a body as it streams by: whole up to a limit, else its first
// and last half of the limit, and always its length and SHA-256. The zero
// value records the length and hash alone.
type Tape struct {
	max    int // bytes kept
	kept   []byte
	ring   []byte // the last part, once the body is longer than max
	next   int    // where in ring the next byte goes
	length int64
	hash   hash.Hash
}

// NewTape returns a Tape that keeps max bytes.
func NewTape(max int64) *Tape { return &Tape{max: int(max)} }

// Write implements [io.Writer]; it never fails.
func (t *Tape) Write(p []byte) (int, error) {
	if t.hash == nil {
		t.hash = sha256.New()
	}
	t.hash.Write(p)
	t.length += int64(len(p))
	rest := p
	if room := t.max - len(t.kept); t.ring == nil && room > 0 {
		n := min(room, len(rest))
		t.kept = append(t.kept, rest[:n]...)
		rest = rest[n:]
	}
	if len(rest) == 0 || t.max == 0 {
		return len(p), nil
	}
	if t.ring == nil {
		// Over the limit: the second half of what was kept starts the tail.
		half := t.max / 2
		t.ring = make([]byte, t.max-half)
		copy(t.ring, t.kept[half:])
		t.kept = t.kept[:half]
	}
	t.roll(rest)
	return len(p), nil
}

// Length is how many bytes were written.
func (t *Tape) Length() int64 { return t.length }

// roll keeps the last bytes of what was written so far in the ring.
func (t *Tape) roll(p []byte) {
	if len(p) > len(t.ring) {
		p = p[len(p)-len(t.ring):]
	}
	n := copy(t.ring[t.next:], p)
	copy(t.ring, p[n:])
	t.next = (t.next + len(p)) % len(t.ring)
}

// Body returns what was recorded.
func (t *Tape) Body(contentType, encoding string) Body {
	b := Body{Head: t.kept, Length: t.length, ContentType: contentType, Encoding: encoding}
	if t.hash == nil {
		b.SHA256 = sha256.Sum256(nil)
	} else {
		t.hash.Sum(b.SHA256[:0])
	}
	if b.Truncated = t.length > int64(len(t.kept)); b.Truncated && t.ring != nil {
		b.Tail = append(append(make([]byte, 0, len(t.ring)), t.ring[t.next:]...), t.ring[:t.next]...)
	}
	return b
}

// NewBody records a body that is at hand whole. The bytes are not copied.
func NewBody(body []byte, max int64, contentType, encoding string) Body {
	b := Body{Head: body, Length: int64(len(body)), SHA256: sha256.Sum256(body), ContentType: contentType, Encoding: encoding}
	if b.Length > max {
		half := max / 2
		b.Head, b.Tail, b.Truncated = body[:half:half], body[b.Length-(max-half):], true
	}
	return b
}
