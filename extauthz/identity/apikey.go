package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
)

// Key is a static API key, for those who have nothing else.
type Key struct {
	Name string
	// Hash is the SHA-256 of the whole key, in hexadecimal. A plain hash is
	// right here: a key is random and long, so nobody can try them all.
	Hash    string
	Subject string // default: Name
	Kind    call.Kind
	Groups  []string
	Expires time.Time // zero: never
}

// KeyIssuer is the issuer of identities that API keys prove.
const KeyIssuer = "callgate://keys"

// keyPrefix begins every key, so that scanners find one that leaked.
const keyPrefix = "cgk_"

// keyBytes is the randomness of a key.
const keyBytes = 32

// NewKey makes a key and its hash.
func NewKey() (key, hash string) {
	var b [keyBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	key = keyPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
	return key, HashKey(key)
}

// HashKey is a key's hash, as the configuration has it.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// apiKeys finds keys by their hash.
type apiKeys map[[32]byte]Key

func newAPIKeys(list []Key) (apiKeys, error) {
	out := apiKeys{}
	for _, k := range list {
		var hash [32]byte
		b, err := hex.DecodeString(k.Hash)
		if err != nil || len(b) != len(hash) {
			return nil, fmt.Errorf("key %s: hash must be the SHA-256 of the key in hexadecimal; callgate identity key makes both", k.Name)
		}
		copy(hash[:], b)
		if other, twice := out[hash]; twice {
			return nil, fmt.Errorf("keys %s and %s are the same key", other.Name, k.Name)
		}
		if k.Subject == "" {
			k.Subject = k.Name
		}
		out[hash] = k
	}
	return out, nil
}

// maxKey bounds a key, in bytes.
const maxKey = 256

// key returns whom an API key speaks for.
func (v *Verifier) key(text string) (call.Identity, error) {
	if len(text) > maxKey || !strings.HasPrefix(text, keyPrefix) {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the API key is not one of this gateway's")
	}
	sum := sha256.Sum256([]byte(text))
	k, known := v.keys[sum]
	want, err := hex.DecodeString(k.Hash)
	if !known || err != nil || subtle.ConstantTimeCompare(want, sum[:]) != 1 {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the API key is not one of this gateway's")
	}
	if !k.Expires.IsZero() && !v.cfg.Now().Before(k.Expires) {
		return call.Identity{}, refuse(call.ReasonExpiredToken, "the API key has expired; ask for a new one")
	}
	return v.admit(call.Identity{Issuer: KeyIssuer, Subject: k.Subject, Kind: k.Kind, Groups: k.Groups, Method: "key", TokenID: k.Name, Expires: k.Expires,
		Claims: map[string]any{"iss": KeyIssuer, "sub": k.Subject, "jti": k.Name}})
}
