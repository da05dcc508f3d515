package issuer

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// maxKeys bounds the JWKS; the oldest key is dropped first.
const maxKeys = 8

// keys are the signing keys, the newest last: that one signs, all verify.
type keys struct {
	mu   sync.RWMutex
	list []key // guarded by mu; never empty after the first rotate
}

// rotate adds a new signing key and keeps the earlier ones for verification.
// It returns the new key's id.
func (k *keys) rotate() (string, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", fmt.Errorf("generate signing key: %w", err)
	}
	id := uuid.NewString()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, key{id: id, private: private})
	if len(k.list) > maxKeys {
		k.list = append([]key(nil), k.list[len(k.list)-maxKeys:]...)
	}
	return id, nil
}

func (k *keys) signing() op.SigningKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return signingKey{k.list[len(k.list)-1]}
}

func (k *keys) public() []op.Key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	set := make([]op.Key, len(k.list))
	for i, one := range k.list {
		set[i] = publicKey{one}
	}
	return set
}

type key struct {
	id      string
	private *rsa.PrivateKey
}

func (k key) ID() string { return k.id }

type signingKey struct{ key }

func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k signingKey) Key() any                                    { return k.private }

type publicKey struct{ key }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return &k.private.PublicKey }
