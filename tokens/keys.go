package tokens

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

// ahead is how long a key is published before it signs: longer than anybody goes
// without looking for new ones, so that no call meets a key that is not known.
const ahead = 15 * time.Minute

// keys are those of one moment.
type keys struct {
	signing jwk.Key // private
	public  jwk.Set
}

// turn makes a new key where one is due, forgets those that nothing valid is
// signed with any more, and takes up what other processes with the same store
// have made.
func (i *Issuer) turn(ctx context.Context) error {
	now := i.cfg.Now()
	var all []Key
	at := 0
	if err := i.store.Turn(ctx, func(have []Key) (made *Key, over []Key, err error) {
		all = have
		if n := len(all); n == 0 || !now.Before(all[n-1].Created.Add(i.cfg.Rotate)) {
			k, err := newKey()
			if err != nil {
				return nil, nil, fmt.Errorf("make a key for tokens: %w", err)
			}
			made = &Key{k, now}
			all = append(all, *made)
			i.cfg.Log.InfoContext(ctx, "a new key for tokens", "kid", k.KeyID())
		}
		at = present(all, now)
		// What an older key signed last is over once its successor has signed
		// for as long as a token lives.
		if now.After(all[at].Created.Add(ahead + i.cfg.Lifetime + i.cfg.ClockSkew + turnEvery)) {
			over, all, at = all[:at], all[at:], 0
		}
		return made, over, nil
	}); err != nil {
		return fmt.Errorf("look after the keys of tokens: %w", err)
	}
	next := &keys{signing: all[at].Private, public: jwk.NewSet()}
	for _, k := range all {
		public, err := k.Private.PublicKey()
		if err == nil {
			err = next.public.AddKey(public)
		}
		if err != nil {
			return fmt.Errorf("publish the keys of tokens: %w", err)
		}
	}
	i.keys.Store(next)
	return nil
}

// present is which key signs now: the newest that has been published for long
// enough, or the only one.
func present(all []Key, now time.Time) int {
	at := 0
	for n, k := range all {
		if !now.Before(k.Created.Add(ahead)) {
			at = n
		}
	}
	return at
}

func newKey() (jwk.Key, error) {
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	k, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, err
	}
	print, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	for name, v := range map[string]any{jwk.KeyIDKey: base64.RawURLEncoding.EncodeToString(print), jwk.AlgorithmKey: jwa.ES256, jwk.KeyUsageKey: "sig"} {
		if err := k.Set(name, v); err != nil {
			return nil, err
		}
	}
	return k, nil
}
