package endpoint

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
)

// Config is what each endpoint needs.
type Config struct {
	// Listener is where to serve; default: a free port of 127.0.0.1.
	Listener net.Listener
	// TLS, where given, is served instead of plain text.
	TLS *tls.Config
	// Credential is the service's own key. Required.
	Credential string
	Log        *slog.Logger
}

func (c Config) complete() (Config, error) {
	// Without this, an empty key would be the right one.
	if strings.TrimSpace(c.Credential) == "" {
		return c, errors.New("an endpoint needs a credential: set Config.Credential")
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c, nil
}

// key checks the one credential of an endpoint.
type key struct {
	where string // header or metadata name, lower case
	sum   [sha256.Size]byte
}

func newKey(where, value string) key { return key{where: where, sum: sha256.Sum256([]byte(value))} }

// check says what is wrong with the values that came under the key's name;
// nil: nothing.
func (k key) check(values []string) error {
	switch {
	case len(values) == 0:
		return errors.New("no credential: this service wants its own key in " + k.where)
	case len(values) > 1:
		return errors.New("more than one value in " + k.where + ": send this service's key alone")
	}
	sum := sha256.Sum256([]byte(values[0]))
	if subtle.ConstantTimeCompare(sum[:], k.sum[:]) != 1 {
		return errors.New("wrong credential in " + k.where + ": this service wants its own key; a token that a caller got elsewhere is not one")
	}
	return nil
}
