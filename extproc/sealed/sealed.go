// Package sealed keeps responses as they were before they were masked, for
// investigators alone.
//
// An original is encrypted twice with age (C2SP age-encryption.org/v1): inside to
// the investigators' public keys, whose private halves the gateway never has, and
// around that to the gateway's own release key. So neither who reads the database
// nor who holds an investigator's key can read it: the gateway must release it
// first, which it does when a second person has agreed, and writes down.
//
// The audit trail commits to each original by a keyed hash. The key lies inside
// the encryption, so that nobody can guess a short original from the hash, and
// whoever opens it can prove that it is the one that was masked.
package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Original is a response body as the function sent it.
type Original struct {
	Call     string // the call's id
	Type     string // content-type
	Encoding string // content-encoding
	Length   int64  // of the whole body
	Body     []byte // the whole, or its first part
}

// ErrOther says that what was opened is not what the trail committed to.
var ErrOther = errors.New("it is not the original that the trail committed to")

// magic begins what lies inside both encryptions, and outside what lies inside the
// gateway's: the call's id is in both, so that one call's original can't be
// released as another's.
const (
	magic   = "callgate original v1\n"
	outside = "callgate sealed v1\n"
)

// head is the first line after the magic.
type head struct {
	Key      []byte `json:"key"` // of the commitment
	Call     string `json:"call"`
	Type     string `json:"type,omitempty"`
	Encoding string `json:"encoding,omitempty"`
	Length   int64  `json:"length"`
}

// ReleaseKey is the gateway's own key.
type ReleaseKey struct{ identity *age.X25519Identity }

// NewReleaseKey makes one.
func NewReleaseKey() (*ReleaseKey, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make a release key: %w", err)
	}
	return &ReleaseKey{id}, nil
}

// ParseReleaseKey reads what [ReleaseKey.Secret] wrote: an age X25519 identity.
// Its error does not quote it.
func ParseReleaseKey(text string) (*ReleaseKey, error) {
	id, err := age.ParseX25519Identity(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("it is no age X25519 identity (AGE-SECRET-KEY-1…); make one with age-keygen")
	}
	return &ReleaseKey{id}, nil
}

// Secret is the key as a text to keep.
func (k *ReleaseKey) Secret() string { return k.identity.String() }

// Public names the key.
func (k *ReleaseKey) Public() string { return k.identity.Recipient().String() }

// Seal encrypts o so that the gateway must release it before one of recipients
// (age1…) can open it, and returns the commitment to it.
func (k *ReleaseKey) Seal(o Original, recipients []string) (blob []byte, commitment [32]byte, err error) {
	inside, err := parseRecipients(recipients)
	if err != nil {
		return nil, commitment, err
	}
	var key [32]byte
	rand.Read(key[:]) // never fails; see crypto/rand
	line, err := json.Marshal(head{Key: key[:], Call: o.Call, Type: o.Type, Encoding: o.Encoding, Length: o.Length})
	if err != nil {
		return nil, commitment, fmt.Errorf("seal an original: %w", err)
	}
	var buf bytes.Buffer
	around, err := age.Encrypt(&buf, k.identity.Recipient())
	if err != nil {
		return nil, commitment, fmt.Errorf("seal an original: %w", err)
	}
	if _, err := io.WriteString(around, outside+o.Call+"\n"); err != nil {
		return nil, commitment, fmt.Errorf("seal an original: %w", err)
	}
	w, err := age.Encrypt(around, inside...)
	if err != nil {
		return nil, commitment, fmt.Errorf("seal an original: %w", err)
	}
	for _, part := range [][]byte{[]byte(magic), line, []byte("\n"), o.Body} {
		if _, err := w.Write(part); err != nil {
			return nil, commitment, fmt.Errorf("seal an original: %w", err)
		}
	}
	if err := errors.Join(w.Close(), around.Close()); err != nil {
		return nil, commitment, fmt.Errorf("seal an original: %w", err)
	}
	return buf.Bytes(), commit(key[:], o), nil
}

// CheckRecipients tells what is wrong with a list of public keys.
func CheckRecipients(recipients []string) error {
	_, err := parseRecipients(recipients)
	return err
}

func parseRecipients(recipients []string) ([]age.Recipient, error) {
	if len(recipients) == 0 {
		return nil, errors.New("originals are sealed for nobody; name an age public key")
	}
	out := make([]age.Recipient, len(recipients))
	for i, text := range recipients {
		if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") {
			return nil, errors.New("a private key stands where a public one belongs; the gateway must not have it: replace both, and name the public key (age1…)")
		}
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no age X25519 public key (age1…)", text)
		}
		out[i] = r
	}
	return out, nil
}

// Release takes the gateway's own encryption off a call's original. What is left
// can be opened by the investigators whom it was sealed for. It returns [ErrOther]
// for another call's.
func (k *ReleaseKey) Release(blob []byte, call string) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(blob), k.identity)
	if err != nil {
		var other *age.NoIdentityMatchError
		if errors.As(err, &other) {
			return nil, errors.New("the original was sealed under another release key than this gateway's (audit.unseal.release_key)")
		}
		return nil, fmt.Errorf("the sealed original is damaged: %w", err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("the sealed original is damaged: %w", err)
	}
	released, ok := bytes.CutPrefix(out, []byte(outside+call+"\n"))
	if !ok {
		return nil, ErrOther
	}
	return released, nil
}

// Open decrypts what was released with an investigator's private keys
// (AGE-SECRET-KEY-1…, as age-keygen writes them), and checks it against the
// commitment of the call in the trail. It returns [ErrOther] where it is not that.
func Open(released []byte, keys io.Reader, call string, commitment [32]byte) (Original, error) {
	ids, err := age.ParseIdentities(keys)
	if err != nil {
		return Original{}, errors.New("the private key can't be read; give a file as age-keygen writes it (AGE-SECRET-KEY-1…)")
	}
	r, err := age.Decrypt(bytes.NewReader(released), ids...)
	if err != nil {
		var other *age.NoIdentityMatchError
		if errors.As(err, &other) {
			return Original{}, errors.New("the original was sealed for other keys than this one")
		}
		return Original{}, fmt.Errorf("the original is damaged: %w", err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return Original{}, fmt.Errorf("the original is damaged: %w", err)
	}
	o, key, err := parse(plain)
	if err != nil {
		return Original{}, err
	}
	if o.Call != call || commit(key, o) != commitment {
		return Original{}, ErrOther
	}
	return o, nil
}

// parse reads what lies inside both encryptions.
func parse(plain []byte) (Original, []byte, error) {
	rest, ok := bytes.CutPrefix(plain, []byte(magic))
	line, body, found := bytes.Cut(rest, []byte("\n"))
	if !ok || !found {
		return Original{}, nil, errors.New("what was sealed is no original of callgate's, or of a newer version")
	}
	var h head
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return Original{}, nil, errors.New("what was sealed is no original of callgate's, or of a newer version")
	}
	return Original{Call: h.Call, Type: h.Type, Encoding: h.Encoding, Length: h.Length, Body: body}, h.Key, nil
}

// commit is HMAC-SHA256 over the original, each field with its length before it.
func commit(key []byte, o Original) [32]byte {
	h := hmac.New(sha256.New, key)
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	field([]byte("callgate/original/v1"))
	field([]byte(o.Call))
	field([]byte(o.Type))
	field([]byte(o.Encoding))
	field(binary.BigEndian.AppendUint64(nil, uint64(o.Length)))
	field(o.Body)
	return [32]byte(h.Sum(nil))
}
