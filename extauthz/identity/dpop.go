package identity

import (
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/callgate/callgate/call"
)

const (
	// proofAge is how old a proof may be.
	proofAge = time.Minute
	maxProof = 8 << 10 // bytes
	// proofsMost is how many proofs are remembered against being used twice.
	proofsMost = 131_072
)

// proofAlgorithms are those that a proof may be signed with: a symmetric key
// would prove nothing.
var proofAlgorithms = []jwa.SignatureAlgorithm{jwa.ES256, jwa.ES384, jwa.ES512, jwa.RS256, jwa.PS256, jwa.EdDSA}

// proofs checks DPoP proofs (RFC 9449 §4.3) and remembers those it saw. Each
// decision server remembers its own.
type proofs struct {
	mu   sync.Mutex
	seen *lru.Cache[[32]byte, time.Time]
}

func newProofs() *proofs {
	seen, err := lru.New[[32]byte, time.Time](proofsMost)
	if err != nil {
		panic("identity: a cache of a fixed size can always be made: " + err.Error())
	}
	return &proofs{seen: seen}
}

// check makes sure that proof is of the key with that thumbprint, and for just
// this request and token.
func (p *proofs) check(proof, thumbprint, token string, r Request, now time.Time, skew time.Duration) *Error {
	no := func(why string) *Error { return refuse(call.ReasonInvalidToken, "the DPoP proof %s", why) }
	if len(proof) > maxProof {
		return no("is too long")
	}
	m, err := jws.Parse([]byte(proof), jws.WithCompact())
	if err != nil || len(m.Signatures()) != 1 {
		return no("is not a signed JWT in compact form")
	}
	h := m.Signatures()[0].ProtectedHeaders()
	key := h.JWK()
	switch {
	case h.Type() != "dpop+jwt":
		return no("is not of type dpop+jwt")
	case !slices.Contains(proofAlgorithms, h.Algorithm()):
		return no("is signed with an algorithm that is not accepted")
	case len(h.Critical()) > 0:
		return no("has critical header parameters (crit), which are not supported")
	case key == nil:
		return no("does not hold its public key (jwk)")
	case private(key) || !fits(key, h.Algorithm()):
		return no("holds a key that is not a public key for its algorithm")
	}
	print, err := key.Thumbprint(crypto.SHA256)
	if err != nil || subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(print)), []byte(thumbprint)) != 1 {
		return no("is signed with another key than the token is bound to")
	}
	payload, err := jws.Verify([]byte(proof), jws.WithKey(h.Algorithm(), key))
	if err != nil {
		return no("has no valid signature")
	}
	// A name that stands twice, or in other letters, is read differently from
	// library to library.
	said, err := onlyOnce(payload)
	if err != nil {
		return no("has claims that are ambiguous or can't be read")
	}
	id, _ := said["jti"].(string)
	method, _ := said["htm"].(string)
	target, _ := said["htu"].(string)
	of, _ := said["ath"].(string)
	made, timed := seconds(said["iat"])
	sum := sha256.Sum256([]byte(token))
	switch {
	case id == "" || !timed:
		return no("has no jti or iat")
	case method != r.Method:
		return no("is for another method (htm)")
	case !sameURL(target, r):
		return no("is for another URL (htu)")
	case subtle.ConstantTimeCompare([]byte(of), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1:
		return no("is for another token (ath)")
	}
	if age := now.Sub(made); age > proofAge+skew || age < -skew {
		return no("was made too long ago, or in the future; make one for each request, and check the clocks")
	}
	if !p.first(sha256.Sum256([]byte(thumbprint+"\x00"+id)), now, made.Add(proofAge+2*skew)) {
		return no("was used before; make one for each request")
	}
	return nil
}

// first reports whether a proof is seen for the first time, and remembers it
// until it is too old anyway.
func (p *proofs) first(key [32]byte, now, until time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.seen.Get(key); ok && now.Before(old) {
		return false
	}
	p.seen.Add(key, until)
	return true
}

func private(k jwk.Key) bool {
	yes, err := jwk.IsPrivateKey(k)
	return err != nil || yes
}

// sameURL compares without query and fragment (RFC 9449 §4.3), and as RFC 3986
// §6.2 normalises: scheme and host in small letters, no default port.
func sameURL(claimed string, r Request) bool {
	u, err := url.Parse(claimed)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil {
		return false
	}
	path, _, _ := strings.Cut(r.Path, "?")
	return strings.EqualFold(u.Scheme, r.Scheme) && plainHost(u.Scheme, u.Host) == plainHost(r.Scheme, r.Authority) && orRoot(u.EscapedPath()) == orRoot(path)
}

func plainHost(scheme, host string) string {
	host = strings.ToLower(host)
	for s, port := range map[string]string{"http": ":80", "https": ":443"} {
		if strings.EqualFold(s, scheme) {
			host = strings.TrimSuffix(host, port)
		}
	}
	return host
}

func orRoot(path string) string {
	if path == "" {
		return "/"
	}
	return path
}
