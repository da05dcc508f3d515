package ledger

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/sumdb/note"
)

// Key is one signing key of a replica.
type Key struct {
	// Verifier is the public half (https://c2sp.org/signed-note#verifier-keys):
	// name+hash+base64. It is what auditors get.
	Verifier string    `json:"verifier"`
	Created  time.Time `json:"created"`
	// Secret is the private half; gone once a newer key has taken over.
	Secret  string    `json:"secret,omitempty"`
	Revoked time.Time `json:"revoked,omitzero"`
	Reason  string    `json:"reason,omitempty"` // why it was revoked

	// AddedTold and RevokedTold say that the log tells of it, under a
	// signature: who trusts an older key learns of a newer one from the log.
	AddedTold   bool `json:"added_told,omitempty"`
	RevokedTold bool `json:"revoked_told,omitempty"`
	// Handover is the checkpoint that the key before signed, too, until it is
	// known to be kept elsewhere: that key's secret is gone.
	Handover string `json:"handover,omitempty"`
}

// OpenHandover reads the checkpoint by which the key before handed over.
func (k Key) OpenHandover() (Checkpoint, error) {
	own, err := Verifiers([]string{k.Verifier})
	if err != nil {
		return Checkpoint{}, err
	}
	c, _, err := OpenCheckpoint([]byte(k.Handover), own)
	if err != nil {
		return c, fmt.Errorf("handover to key %s: %w", k.ID(), err)
	}
	return c, nil
}

// ID is the key's name and hash, which name it among all keys.
func (k Key) ID() string { return keyID(k.Verifier) }

func keyID(verifier string) string {
	name, rest, _ := strings.Cut(verifier, "+")
	hash, _, _ := strings.Cut(rest, "+")
	return name + "+" + hash
}

// NewKey makes a key. What a key name can't hold is replaced in name.
func NewKey(name string, now time.Time) (Key, error) {
	secret, verifier, err := note.GenerateKey(rand.Reader, KeyName(name))
	if err != nil {
		return Key{}, fmt.Errorf("make a ledger key: %w", err)
	}
	return Key{Verifier: verifier, Secret: secret, Created: now.UTC()}, nil
}

// KeyName makes a key name of any text.
func KeyName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '+' || !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '-'
		}
		return r
	}, s)
	if s == "" {
		return "callgate"
	}
	return s
}

// Ring is the keys of a replica, oldest first.
type Ring struct {
	Keys []Key `json:"keys"`
}

// ParseRing reads what [Ring.Encode] wrote.
func ParseRing(data []byte) (Ring, error) {
	var r Ring
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil || len(r.Keys) == 0 || len(bytes.TrimSpace(data[dec.InputOffset():])) > 0 {
		// A JSON error may quote its input, which holds secrets.
		return Ring{}, errors.New("the key ring is no JSON of the expected form")
	}
	for i, k := range r.Keys {
		if _, err := note.NewVerifier(k.Verifier); err != nil {
			return Ring{}, fmt.Errorf("key %d of the ring has a malformed verifier key", i+1)
		}
		if k.Handover != "" {
			if _, err := k.OpenHandover(); err != nil {
				return Ring{}, err
			}
		}
		if k.Secret == "" {
			continue
		}
		s, err := note.NewSigner(k.Secret)
		if err != nil {
			return Ring{}, fmt.Errorf("key %s has a malformed secret", k.ID())
		}
		if fmt.Sprintf("%s+%08x", s.Name(), s.KeyHash()) != k.ID() {
			return Ring{}, fmt.Errorf("key %s has the secret of another key", k.ID())
		}
	}
	return r, nil
}

// Encode writes the ring, secrets and all.
func (r Ring) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the key ring: %w", err)
	}
	return append(data, '\n'), nil
}

// Signing are the keys that can sign, the one to use last.
func (r Ring) Signing() []Key {
	var out []Key
	for _, k := range r.Keys {
		if k.Secret != "" && k.Revoked.IsZero() {
			out = append(out, k)
		}
	}
	return out
}

// Trusted are the verifier keys that are not revoked.
func (r Ring) Trusted() []string {
	var out []string
	for _, k := range r.Keys {
		if k.Revoked.IsZero() {
			out = append(out, k.Verifier)
		}
	}
	return out
}

// Revoke marks the key with that id, or a part of it that only one has.
func (r *Ring) Revoke(id, reason string, now time.Time) (Key, error) {
	found := -1
	for i, k := range r.Keys {
		if id != "" && (k.Verifier == id || strings.Contains(k.ID(), id)) {
			if found >= 0 {
				return Key{}, fmt.Errorf("%q means more than one key; give the whole name+hash", id)
			}
			found = i
		}
	}
	if found < 0 {
		return Key{}, fmt.Errorf("there is no key %q in the ring", id)
	}
	k := &r.Keys[found]
	if !k.Revoked.IsZero() {
		return *k, fmt.Errorf("key %s was revoked on %s already", k.ID(), k.Revoked.Format(time.RFC3339))
	}
	k.Revoked, k.Reason, k.Secret = now.UTC(), reason, ""
	return *k, nil
}

// Verifiers looks up verifier keys by name and hash.
func Verifiers(keys []string) (note.Verifiers, error) {
	list := make([]note.Verifier, 0, len(keys))
	seen := make(map[string]bool)
	for _, k := range keys {
		if seen[k] {
			continue // a list with a key twice is ambiguous to the library
		}
		seen[k] = true
		v, err := note.NewVerifier(k)
		if err != nil {
			return nil, fmt.Errorf("%q is no verifier key (name+hash+base64): %w", k, err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

// ParseVerifierKeys reads verifier keys, one a line; lines that are empty or
// begin with # are skipped.
func ParseVerifierKeys(text []byte) ([]string, error) {
	var keys []string
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := note.NewVerifier(line); err != nil {
			return nil, fmt.Errorf("line %d is no verifier key (name+hash+base64)", i+1)
		}
		keys = append(keys, line)
	}
	return keys, nil
}
