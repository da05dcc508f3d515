package identity

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // of RSASSA-PSS
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"golang.org/x/sync/singleflight"

	"github.com/callgate/callgate/call"
)

const (
	refreshEvery = 5 * time.Minute
	// askAgain is how soon an unknown key id may make us ask the issuer again:
	// tokens with made-up ids must not become requests to it.
	askAgain = 5 * time.Second
	// outage is, by default, how long known keys are believed while the issuer is away.
	outage       = 24 * time.Hour
	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20 // bytes of a discovery document or key set
	// wantedMost is how many unknown key ids of an issuer are remembered.
	wantedMost = 1024
)

// issuer is an Issuer with its present keys.
type issuer struct {
	Issuer
	algorithms map[jwa.SignatureAlgorithm]bool
	now        func() time.Time
	log        *slog.Logger
	metrics    *Metrics

	// cache is the file that remembers the keys; "": none.
	cache string

	keys       atomic.Pointer[jwk.Set]
	fetched    atomic.Int64  // unix nanoseconds of the last good fetch
	generation atomic.Uint64 // of the key set; verified tokens of an older one are verified anew

	// recalled is set while the keys are those of an earlier run.
	recalled atomic.Bool

	flight singleflight.Group // one fetch at a time, for all who wait for it
	asked  atomic.Int64       // unix nanoseconds of the end of the last attempt
	begun  atomic.Int64       // unix nanoseconds of the beginning of the last good fetch
	// wanted says since when an unknown key id is being asked for, in unix
	// nanoseconds, by the id's SHA-256.
	wanted *lru.Cache[[32]byte, int64]
}

// usable reports whether the keys are recent enough to be believed.
func (i *issuer) usable(now time.Time) bool {
	return now.Sub(time.Unix(0, i.fetched.Load())) < i.Outage
}

// refresh fetches the keys from time to time.
func (i *issuer) refresh(ctx context.Context) {
	for {
		wait := refreshEvery + rand.N(refreshEvery/5) // not all replicas at once
		switch {
		case i.keys.Load() == nil:
			wait = time.Second
		case i.recalled.Load():
			wait = 10 * time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := i.fetch(ctx); err != nil && ctx.Err() == nil {
			i.metrics.failed.Inc()
			i.log.WarnContext(ctx, "fetching an issuer's keys; the known ones stay in use", "issuer", i.URL, "error", err)
		}
	}
}

// fetch reads the discovery document (OpenID Connect Discovery 1.0) and the
// keys it names.
func (i *issuer) fetch(ctx context.Context) error { return i.share(ctx, i.ask) }

// fetchUnknown fetches for the sake of an unknown key id, if the last attempt is
// not too recent.
func (i *issuer) fetchUnknown(ctx context.Context) error {
	return i.share(ctx, func(ctx context.Context) error {
		if i.now().Sub(time.Unix(0, i.asked.Load())) < askAgain {
			return nil
		}
		err := i.ask(ctx)
		if err != nil {
			i.metrics.failed.Inc()
			i.log.WarnContext(ctx, "fetching an issuer's keys for an unknown key id", "issuer", i.URL, "error", err)
		}
		return err
	})
}

// share waits for the fetch that is under way, or for this one. The keys are
// everybody's, so that one caller hangs up stops no fetch, and an issuer that
// hangs keeps nobody beyond their own time.
func (i *issuer) share(ctx context.Context, fetch func(context.Context) error) error {
	done := i.flight.DoChan("", func() (any, error) { return nil, fetch(context.WithoutCancel(ctx)) })
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (i *issuer) ask(ctx context.Context) error {
	begun := i.now()
	defer func() { i.asked.Store(i.now().UnixNano()) }()
	if i.Keys != nil {
		i.take(i.Keys(), begun, begun)
		return nil
	}
	set, err := i.published(ctx)
	if err != nil {
		return err
	}
	i.take(set, begun, i.now())
	i.recalled.Store(false)
	i.remember(ctx, set)
	return nil
}

// take believes a key set from now on.
func (i *issuer) take(set jwk.Set, begun, fetched time.Time) {
	if old := i.keys.Load(); old == nil || !same(*old, set) {
		i.keys.Store(&set)
		// A key may be gone because it leaked: nothing it signed is believed
		// on the strength of having been verified before.
		i.generation.Add(1)
	}
	i.begun.Store(begun.UnixNano())
	i.fetched.Store(fetched.UnixNano())
}

// published is the issuer's present key set.
func (i *issuer) published(ctx context.Context) (jwk.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	data, err := i.get(ctx, strings.TrimSuffix(i.URL, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, errors.New("its discovery document is not JSON")
	}
	if doc.Issuer != i.URL {
		return nil, fmt.Errorf("its discovery document is of issuer %q; configure exactly that", doc.Issuer)
	}
	if strings.HasPrefix(i.URL, "https:") && !strings.HasPrefix(doc.Keys, "https:") {
		return nil, errors.New("its keys are not served over https")
	}
	if data, err = i.get(ctx, doc.Keys); err != nil {
		return nil, err
	}
	set, err := jwk.Parse(data, jwk.WithIgnoreParseError(true))
	if err != nil {
		return nil, errors.New("its key set can't be read")
	}
	if set.Len() == 0 {
		return nil, errors.New("its key set has no keys")
	}
	return set, nil
}

func (i *issuer) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := i.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s answered more than %d bytes", url, maxDocument)
	}
	return data, err
}

func same(a, b jwk.Set) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// key returns the public key for a token, with the generation of the set it is
// from. A key id that is not known makes us ask the issuer, but not often: until
// it was asked, nobody can say that the key is none of its own.
func (i *issuer) key(ctx context.Context, kid string, alg jwa.SignatureAlgorithm) (jwk.Key, uint64, *Error) {
	if k, g := i.find(kid, alg); k != nil {
		return k, g, nil
	}
	first := i.now().UnixNano()
	if before, known, _ := i.wanted.PeekOrAdd(sha256.Sum256([]byte(kid)), first); known {
		first = before
	}
	err := i.fetchUnknown(ctx)
	if k, g := i.find(kid, alg); k != nil {
		return k, g, nil
	}
	switch {
	case i.keys.Load() == nil || !i.usable(i.now()):
		return nil, 0, refuse(call.ReasonIdentityUnavailable, "the token can't be checked now: its issuer's keys can't be fetched; try again later")
	case err != nil || i.begun.Load() < first:
		return nil, 0, refuse(call.ReasonIdentityUnavailable, "the token can't be checked now: its key is not known, and its issuer could not be asked again yet; try again in a few seconds")
	}
	return nil, 0, refuse(call.ReasonInvalidToken, "the token is signed with a key that its issuer does not publish")
}

// find looks for a key that may have signed with the algorithm. The key decides
// what it is for, not the token.
func (i *issuer) find(kid string, alg jwa.SignatureAlgorithm) (jwk.Key, uint64) {
	generation := i.generation.Load()
	set := i.keys.Load()
	if set == nil || !i.usable(i.now()) {
		return nil, 0
	}
	var found jwk.Key
	for n := range (*set).Len() {
		k, ok := (*set).Key(n)
		if !ok || !fits(k, alg) || kid != "" && k.KeyID() != kid {
			continue
		}
		if kid == "" && found != nil {
			return nil, 0 // the token does not say which
		}
		found = k
		if kid != "" {
			break
		}
	}
	return found, generation
}

// salted reports whether an RSASSA-PSS signature has a salt as long as its hash
// (RFC 7518 §3.5); the library takes one of any length. Others have none.
func salted(alg jwa.SignatureAlgorithm, k jwk.Key, token string) bool {
	hash, pss := map[jwa.SignatureAlgorithm]crypto.Hash{jwa.PS256: crypto.SHA256, jwa.PS384: crypto.SHA384, jwa.PS512: crypto.SHA512}[alg]
	if !pss {
		return true
	}
	var public rsa.PublicKey
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 || k.Raw(&public) != nil {
		return false
	}
	sig, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil {
		return false
	}
	h := hash.New()
	h.Write([]byte(token[:dot]))
	return rsa.VerifyPSS(&public, hash, h.Sum(nil), sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
}

// fits reports whether a published key is one for signatures of this algorithm.
func fits(k jwk.Key, alg jwa.SignatureAlgorithm) bool {
	if use := k.KeyUsage(); use != "" && use != "sig" {
		return false
	}
	if ops := k.KeyOps(); len(ops) > 0 && !slices.Contains(ops, jwk.KeyOpVerify) {
		return false
	}
	if own := k.Algorithm().String(); own != "" && own != alg.String() {
		return false
	}
	switch k.KeyType() {
	case jwa.RSA:
		return strings.HasPrefix(alg.String(), "RS") || strings.HasPrefix(alg.String(), "PS")
	case jwa.EC:
		curves := map[jwa.SignatureAlgorithm]jwa.EllipticCurveAlgorithm{jwa.ES256: jwa.P256, jwa.ES384: jwa.P384, jwa.ES512: jwa.P521}
		ec, ok := k.(jwk.ECDSAPublicKey)
		return ok && curves[alg] == ec.Crv()
	case jwa.OKP:
		return alg == jwa.EdDSA
	}
	return false // a symmetric key is nobody's public key
}
