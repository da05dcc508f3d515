// Package redact replaces what looks like a credential, in what the trail keeps
// of a request or response beside its body, by a keyed hash: equal secrets can
// be matched, and none can be read or, without the key, be guessed.
//
// It would rather hide too much than too little. A name that is written or
// escaped in another way, or a value that holds a credential somewhere inside,
// is hidden whole.
package redact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MinKey is how many bytes a key must have.
const MinKey = 32

// Redactor hides credentials. It is safe for concurrent use.
type Redactor struct {
	key  []byte
	word string // stands for every secret, if not empty
}

// Words returns a Redactor that puts one word in the place of every credential.
func Words(word string) *Redactor { return &Redactor{word: word} }

// New returns a Redactor. Equal secrets get equal hashes from all replicas that
// have the same key.
func New(key []byte) (*Redactor, error) {
	if len(key) < MinKey {
		return nil, fmt.Errorf("the key of hashes has %d bytes, and needs %d", len(key), MinKey)
	}
	// A key of its own, since masked values in responses are hashed under the
	// one that was given.
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("callgate: credentials in the audit trail"))
	return &Redactor{key: mac.Sum(nil)}, nil
}

// hashBytes is how much of a hash is kept: 128 bits, so that among 10 billion
// secrets the chance that any two look equal is one in 10^18.
const hashBytes = 16

// mark begins what stands for a secret.
const mark = "hmac:"

// Stands reports whether something in text stands for a secret, or is written
// as if it did: it is not what the caller sent.
func Stands(text string) bool {
	_, n := Reword(text, "")
	return n > 0
}

// Reword puts a word in the place of all in text that stands for a secret, and
// tells how much there was.
func Reword(text, word string) (string, int) {
	var b strings.Builder
	for n := 0; ; {
		before, rest, found := strings.Cut(text, mark)
		if !found {
			b.WriteString(text)
			return b.String(), n
		}
		b.WriteString(before)
		digits := 0
		for digits < len(rest) && digits < 2*hashBytes && (rest[digits] >= '0' && rest[digits] <= '9' || rest[digits] >= 'a' && rest[digits] <= 'f') {
			digits++
		}
		if digits == 2*hashBytes {
			b.WriteString(word)
			text = rest[digits:]
			n++
		} else {
			b.WriteString(mark)
			text = rest
		}
	}
}

// Secret is what stands for a secret; nothing for none.
func (r *Redactor) Secret(s string) string {
	if s == "" {
		return ""
	}
	if r.word != "" {
		return r.word
	}
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(s))
	return mark + hex.EncodeToString(mac.Sum(nil)[:hashBytes])
}
