package issuer

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Forge makes what an attacker would: the same header and claims as a real
// token, key id included, signed with a key that no issuer ever published.
func Forge(token string) (string, error) {
	end := strings.LastIndexByte(token, '.')
	if strings.Count(token, ".") != 2 {
		return "", errors.New("forge: that is not a signed JWT")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", fmt.Errorf("forge: %w", err)
	}
	sum := sha256.Sum256([]byte(token[:end]))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("forge: %w", err)
	}
	return token[:end+1] + base64.RawURLEncoding.EncodeToString(signature), nil
}
