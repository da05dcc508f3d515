// Package credential fetches the service's own credential, which takes the
// place of whatever the caller sent. It is the last stage of a decision, so
// that nothing that could still go wrong knows it.
package credential

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Config says where a credential is and how it is sent.
type Config struct {
	Header string // lower case
	Prefix string // before the secret: "Bearer "
	Env    string // environment variable that holds it, or
	File   string // file that holds it
}

// Credential is one service's credential. The zero value is of a service that
// needs none.
type Credential struct {
	cfg Config

	mu      sync.Mutex
	value   string
	checked time.Time
	stamp   stamp
}

// stamp tells whether a file was written since it was read.
type stamp struct {
	changed time.Time
	size    int64
}

// New returns the credential of a service, which must be there already.
func New(cfg Config) (*Credential, error) {
	c := &Credential{cfg: cfg}
	if cfg.Env == "" && cfg.File == "" {
		return c, nil
	}
	if _, _, err := c.Header(); err != nil {
		return nil, err
	}
	return c, nil
}

// ErrMissing says that the service's credential can't be had. The cause is
// wrapped with it and names no value.
var ErrMissing = errors.New("the service's credential is missing")

// lookAgain is how often a file is looked at for a change.
const lookAgain = time.Second

// Name is the header that the credential goes into, or "".
func (c *Credential) Name() string {
	if c.cfg.Env == "" && c.cfg.File == "" {
		return ""
	}
	return c.cfg.Header
}

// Header returns the header to set, or an empty name where the service needs
// no credential.
func (c *Credential) Header() (name, value string, err error) {
	switch {
	case c.cfg.Env != "":
		v := strings.TrimSpace(os.Getenv(c.cfg.Env))
		if err := fit(v); err != nil {
			return "", "", fmt.Errorf("%w: environment variable %s %w", ErrMissing, c.cfg.Env, err)
		}
		return c.cfg.Header, c.cfg.Prefix + v, nil
	case c.cfg.File != "":
		v, err := c.file()
		if err != nil {
			return "", "", fmt.Errorf("%w: %w", ErrMissing, err)
		}
		return c.cfg.Header, c.cfg.Prefix + v, nil
	}
	return "", "", nil
}

// file returns what the file holds, read again when it was written.
func (c *Credential) file() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.value != "" && now.Sub(c.checked) < lookAgain {
		return c.value, nil
	}
	info, err := os.Stat(c.cfg.File)
	if err != nil {
		return "", err
	}
	if s := (stamp{info.ModTime(), info.Size()}); c.value == "" || s != c.stamp {
		data, err := os.ReadFile(c.cfg.File)
		if err != nil {
			return "", err
		}
		v := strings.TrimSpace(string(data))
		if err := fit(v); err != nil {
			return "", fmt.Errorf("file %s %w", c.cfg.File, err)
		}
		c.value, c.stamp = v, s
	}
	c.checked = now
	return c.value, nil
}

// fit refuses what can't be a header value.
func fit(v string) error {
	if v == "" {
		return errors.New("is empty")
	}
	for i := range len(v) {
		if v[i] < ' ' || v[i] == 0x7f {
			return errors.New("holds a control character, which a header can't")
		}
	}
	return nil
}
