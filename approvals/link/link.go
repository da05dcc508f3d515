// Package link makes the links by which messages lead to a held call.
//
// A link is signed and ends. It gives nobody a right: it leads to a login, and
// then to a page. That it is signed keeps others from making links that look like
// the gateway's own and lead somewhere it never said.
package link

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Path is where links lead to; the approval's id follows.
const Path = "/a/"

// Why a link leads nowhere.
var (
	ErrForged  = errors.New("the link is not one of this gateway's, or was changed")
	ErrExpired = errors.New("the link has expired")
)

// Signer makes and checks links. Replicas that share the key take each other's.
type Signer struct {
	base string
	key  []byte
}

// New returns a Signer of links under base, such as https://callgate.example.com.
func New(base string, key []byte) (*Signer, error) {
	if len(key) < 32 {
		return nil, fmt.Errorf("the key of links has %d bytes; 32 are needed", len(key))
	}
	own, err := hkdf.Key(sha256.New, key, nil, "callgate/link/v1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of links: %w", err)
	}
	return &Signer{base: strings.TrimSuffix(base, "/"), key: own}, nil
}

// To is a link to an approval that leads there until a time.
func (s *Signer) To(approval string, until time.Time) string {
	e := strconv.FormatInt(until.Unix(), 10)
	return s.base + Path + url.PathEscape(approval) + "?e=" + e + "&s=" + s.sign(approval, e)
}

// Check tells whether a link to an approval, with its query, is good at a time.
func (s *Signer) Check(approval string, query url.Values, now time.Time) error {
	e := query["e"]
	sig := query["s"]
	if len(e) != 1 || len(sig) != 1 || !hmac.Equal([]byte(s.sign(approval, e[0])), []byte(sig[0])) {
		return ErrForged
	}
	until, err := strconv.ParseInt(e[0], 10, 64)
	if err != nil {
		return ErrForged
	}
	if !now.Before(time.Unix(until, 0)) {
		return ErrExpired
	}
	return nil
}

func (s *Signer) sign(approval, until string) string {
	h := hmac.New(sha256.New, s.key)
	fmt.Fprintf(h, "%d:%s:%s", len(approval), approval, until)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
