package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extproc/sealed"
)

// releaseKey is the key without which no investigator can open an original: the
// configured one, or one that is made once and kept.
func releaseKey(cfg *config.Config) (*sealed.ReleaseKey, error) {
	if secret := cfg.Audit.Unseal.ReleaseKey; secret != (config.Secret{}) {
		text, err := secret.Read()
		if err != nil {
			return nil, fmt.Errorf("audit.unseal.release_key: %w", err)
		}
		key, err := sealed.ParseReleaseKey(text)
		if err != nil {
			return nil, fmt.Errorf("audit.unseal.release_key: %w", err)
		}
		return key, nil
	}
	file := filepath.Join(cfg.StateDir, "release.key")
	text, err := os.ReadFile(file)
	switch {
	case err == nil:
		key, err := sealed.ParseReleaseKey(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s is damaged: %w; restore it, or remove it and lose the originals that were sealed under it", file, err)
		}
		return key, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the release key: %w", err)
	}
	key, err := sealed.NewReleaseKey()
	if err != nil {
		return nil, err
	}
	if err := audit.WriteFile(file, []byte(key.Secret()+"\n")); err != nil {
		return nil, fmt.Errorf("keep the release key: %w", err)
	}
	return key, nil
}
