package app

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/fxamacker/cbor/v2"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
)

// carried takes what rules look at of a caller, beside what Envoy may see, from
// the decision to the response: both may be other replicas, and what lies in
// Envoy's metadata is logged. So it is encrypted under a key that replicas derive
// from audit.hash_key, and bound to its call. It implements [extauthz.Carrier].
type carried struct {
	aead cipher.AEAD
	enc  cbor.EncMode
	dec  cbor.DecMode
	// wanted are the claims that rules look at, by policy version and connection.
	wanted atomic.Pointer[map[string]map[string]claimNames]
}

// claimNames are some of a caller's claims, or all.
type claimNames struct {
	names []string
	all   bool
}

// baggage is what is carried.
type baggage struct {
	Claims  map[string]any `cbor:"0,keyasint,omitempty"`
	Session string         `cbor:"1,keyasint,omitempty"`
	Name    string         `cbor:"2,keyasint,omitempty"` // call.Call.SessionName
}

// maxCarried bounds what a call's metadata grows by, in bytes: it comes with every
// piece of a streamed answer.
const maxCarried = 16 << 10

func newCarried(key []byte) (*carried, error) {
	c := &carried{}
	var err error
	if c.aead, err = sealing(key, "callgate: what is carried from a decision to its response"); err != nil {
		return nil, err
	}
	opts := cbor.CoreDetEncOptions()
	opts.ShortestFloat = cbor.ShortestFloatNone // a number is of the kind that it was
	if c.enc, err = opts.EncMode(); err != nil {
		return nil, fmt.Errorf("encode what is carried: %w", err)
	}
	c.dec, err = cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any](), IntDec: cbor.IntDecConvertSignedOrFail}.DecMode()
	return c, err
}

// sealing encrypts under a key that is derived from a secret, for one use of it.
func sealing(secret []byte, use string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, use, 32)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// use makes c carry what these policies, by version, look at.
func (c *carried) use(of map[string]*listing) {
	next := map[string]map[string]claimNames{}
	for version, l := range of {
		next[version] = map[string]claimNames{}
		for name := range l.pins {
			names, all := l.rules.Claims(name)
			next[version][name] = claimNames{names, all}
		}
	}
	c.wanted.Store(&next)
}

// Carry implements [extauthz.Carrier].
func (c *carried) Carry(of *call.Call, version string) (string, error) {
	known := c.wanted.Load()
	if known == nil {
		return "", errors.New("no policy decides here yet")
	}
	wanted, b := (*known)[version][of.Connection], baggage{Session: of.Session, Name: of.SessionName, Claims: of.Identity.Claims}
	if !wanted.all {
		b.Claims = map[string]any{}
		for _, name := range slices.Concat(wanted.names, []string{"sid"}) { // by which sessions are counted
			if v, has := of.Identity.Claims[name]; has {
				b.Claims[name] = v
			}
		}
	}
	plain, err := c.enc.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("encode what is carried: %w", err)
	}
	if len(plain) > maxCarried {
		return "", fmt.Errorf("what rules look at of the caller's claims is over %d bytes", maxCarried)
	}
	return base64.RawStdEncoding.EncodeToString(c.aead.Seal(nil, nil, plain, []byte(of.ID.String()))), nil
}

// open returns what a call's metadata carries, and whether it can be read here.
func (c *carried) open(meta call.Metadata) (baggage, bool) {
	data, err := base64.RawStdEncoding.DecodeString(meta.Carried)
	if err != nil || len(data) == 0 {
		return baggage{}, false
	}
	plain, err := c.aead.Open(nil, nil, data, []byte(meta.CallID.String()))
	if err != nil {
		return baggage{}, false
	}
	var b baggage
	if err := c.dec.Unmarshal(plain, &b); err != nil {
		return baggage{}, false
	}
	return b, true
}

// toolCall is the call that a model wants made, as far as it is known of whom it
// is for, and what is not.
func (c *carried) toolCall(meta call.Metadata, of *call.Call) []policies.Part {
	b, ok := c.open(meta)
	if !ok {
		return slices.Concat(unknownOfTools, []policies.Part{{Field: "call.session"}, {Field: "identity.claims"}, {Field: "session"}})
	}
	of.Identity.Claims, of.Session, of.SessionName = b.Claims, b.Session, b.Name
	return unknownOfTools
}
