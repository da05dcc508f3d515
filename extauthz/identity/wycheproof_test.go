package identity

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// notHere are valid signatures of Wycheproof's that are refused here, and why.
var notHere = map[string]string{
	"hs":      "a symmetric key is nobody's public key",
	"rfc7520": "the key says that it is for another algorithm than the signature is by",
}

// Wycheproof's vectors are signatures over what is no JWT, so what is tried is
// how a token is read, how a key is chosen for it, and the signature: what comes
// before claims are looked at.
func TestWycheproof(t *testing.T) {
	data, err := os.ReadFile("testdata/wycheproof/json_web_signature_test.json")
	must(t, err)
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			Comment         string
			Public, Private json.RawMessage
			Tests           []struct {
				ID           int `json:"tcId"`
				Comment, JWS string
				Result       string
			}
		}
	}
	must(t, json.Unmarshal(data, &file))
	accepted, refused := 0, 0
	for _, g := range file.TestGroups {
		raw := g.Public
		if raw == nil {
			raw = g.Private // symmetric
		}
		set := jwk.NewSet()
		key, err := jwk.ParseKey(raw)
		must(t, err)
		must(t, set.AddKey(key))
		is := &issuer{Issuer: Issuer{Outage: outage}, now: func() time.Time { return start }, algorithms: map[jwa.SignatureAlgorithm]bool{}}
		for _, alg := range []jwa.SignatureAlgorithm{jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512, jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA} {
			is.algorithms[alg] = true
		}
		is.take(set, start, start)
		excused := key.KeyType() == jwa.OctetSeq && notHere["hs"] != "" || strings.HasPrefix(g.Comment, "rfc7520") && notHere["rfc7520"] != ""
		for _, c := range g.Tests {
			err := signature(is, c.JWS)
			switch {
			case err == nil && c.Result != "valid":
				t.Errorf("%d %s %s: taken", c.ID, g.Comment, c.Comment)
			case err != nil && c.Result == "valid" && !excused:
				t.Errorf("%d %s %s: %v", c.ID, g.Comment, c.Comment, err)
			case err == nil:
				accepted++
			default:
				refused++
			}
		}
	}
	if accepted+refused != file.NumberOfTests || accepted < 30 {
		t.Errorf("%d taken and %d refused, of %d", accepted, refused, file.NumberOfTests)
	}
}

func signature(is *issuer, token string) error {
	h, bad := head(token)
	if bad != nil {
		return bad
	}
	if !is.algorithms[h.Algorithm()] {
		return refuse("", "algorithm")
	}
	key, _ := is.find(h.KeyID(), h.Algorithm())
	if key == nil {
		return refuse("", "no key fits")
	}
	if !salted(h.Algorithm(), key, token) {
		return refuse("", "salt")
	}
	_, err := jws.Verify([]byte(token), jws.WithCompact(), jws.WithKey(h.Algorithm(), key))
	return err
}
