package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/config"
)

// hashKey is the key of the hashes that stand for masked values and for
// credentials: the configured one, which replicas can share, or one that is
// made once and kept, so that equal values have equal hashes over restarts.
func hashKey(cfg *config.Config) ([]byte, error) {
	if secret := cfg.Audit.HashKey; secret != (config.Secret{}) {
		return givenKey(secret, "audit.hash_key")
	}
	file := filepath.Join(cfg.StateDir, "hash.key")
	// Its name while only masked values were hashed.
	if err := os.Link(filepath.Join(cfg.StateDir, "mask.key"), file); err == nil {
		if err := audit.SyncDir(cfg.StateDir); err != nil {
			return nil, err
		}
	}
	return keptKey(file, "the key of hashes", "lose the link to earlier hashes")
}

// consoleKey is the key of links in messages and of the pages' cookies: the
// configured one, which replicas share, or one that is made once and kept.
func consoleKey(cfg *config.Config) ([]byte, error) {
	if secret := cfg.Console.Key; secret != (config.Secret{}) {
		return givenKey(secret, "console.key")
	}
	return keptKey(filepath.Join(cfg.StateDir, "console.key"), "the key of links and logins", "end links and logins")
}

// givenKey reads the key of a setting.
func givenKey(secret config.Secret, setting string) ([]byte, error) {
	key, err := secret.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if len(key) < redact.MinKey {
		return nil, fmt.Errorf("%s has %d characters, and needs %d; make one with 'openssl rand -hex 32'", setting, len(key), redact.MinKey)
	}
	return []byte(key), nil
}

// keptKey reads a key, or makes it at the first start. Without it is what losing
// it means.
func keptKey(file, what, without string) ([]byte, error) {
	key, err := os.ReadFile(file)
	switch {
	case err == nil && len(key) == redact.MinKey:
		return key, nil
	case err == nil:
		return nil, fmt.Errorf("%s is damaged (%d bytes, want %d); restore it, or remove it and %s", file, len(key), redact.MinKey, without)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	key = make([]byte, redact.MinKey)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make %s: %w", what, err)
	}
	if err := audit.WriteFile(file, key); err != nil {
		return nil, fmt.Errorf("keep %s: %w", what, err)
	}
	return key, nil
}
