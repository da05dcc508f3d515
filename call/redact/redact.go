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
type Redactor struct{ key []byte }

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
	for {
		_, rest, found := strings.Cut(text, mark)
		if !found {
			return false
		}
		n := 0
		for n < len(rest) && n < 2*hashBytes && (rest[n] >= '0' && rest[n] <= '9' || rest[n] >= 'a' && rest[n] <= 'f') {
			n++
		}
		if n == 2*hashBytes {
			return true
		}
		text = rest
	}
}

// Secret is what stands for a secret; nothing for none.
func (r *Redactor) Secret(s string) string {
	if s == "" {
		return ""
	}
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(s))
	return mark + hex.EncodeToString(mac.Sum(nil)[:hashBytes])
}
