package identity

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
)

// answering stands in for an issuer.
type answering func(*http.Request) (*http.Response, error)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func asking(t testing.TB, transport answering) *Verifier {
	t.Helper()
	v, err := New(Config{ClockSkew: skew, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()), Now: func() time.Time { return start },
		Introspection: &Introspection{Issuer: Issuer{URL: "https://idp.example.com", Audiences: []string{"gate"}, Subject: "sub", Groups: "groups", Kind: "kind", DefaultKind: call.Human},
			URL: "https://idp.example.com/introspect", Client: &http.Client{Transport: transport}, Keep: time.Minute}})
	must(t, err)
	return v
}

// An issuer that hangs keeps a caller no longer than the caller's own time, and
// one caller's end is not another's: the answer is everybody's when it comes.
func TestCallersOfAHungIssuer(t *testing.T) {
	begun, answer := make(chan struct{}), make(chan struct{})
	asked := 0
	v := asking(t, func(r *http.Request) (*http.Response, error) {
		asked++
		close(begun)
		select {
		case <-answer:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"active":true,"sub":"u-1","aud":"gate"}`))}, nil
	})
	show := func(ctx context.Context) error {
		_, err := v.Caller(ctx, Request{Headers: with("authorization", "Bearer opaque")})
		return err
	}
	hasty, leave := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() { left <- show(hasty) }()
	<-begun
	go func() { stayed <- show(t.Context()) }()
	leave()
	var refused *Error
	if err := <-left; !errors.As(err, &refused) || refused.Reason != call.ReasonIdentityUnavailable {
		t.Errorf("who left was told %v", err)
	}
	close(answer)
	if err := <-stayed; err != nil {
		t.Errorf("who stayed was told %v", err)
	}
	if err := show(t.Context()); err != nil || asked != 1 {
		t.Errorf("the answer was not kept: %v, asked %d times", err, asked)
	}
}

// Whatever an issuer answers, somebody comes out only of one that says, once and
// plainly, that the token is active, meant for this service, and not over.
func FuzzIntrospection(f *testing.F) {
	for _, seed := range []string{
		`{"active":true,"sub":"u-1","aud":"gate"}`,
		`{"active":true,"sub":"u-1","aud":["x","gate"],"exp":1772370000,"nbf":1772360000,"iat":1772360000,"iss":"https://idp.example.com","jti":"t","groups":["a"],"kind":"agent","act":{"sub":"bot"}}`,
		`{"active":"true","sub":"u-1","aud":"gate"}`, `{"active":1,"sub":"u-1","aud":"gate"}`, `{"active":false,"sub":"u-1","aud":"gate"}`,
		`{"active":false,"active":true,"sub":"u-1","aud":"gate"}`, `{"Active":true,"sub":"u-1","aud":"gate"}`, `{"active":true,"sub":"u-1"}`,
		`{"active":true,"sub":"u-1","aud":"gate","exp":1}`, `{"active":true,"sub":"u-1","aud":"gate","exp":1e400}`, `{"active":true,"sub":"u-1","aud":"gate","exp":-1e18}`,
		`{"active":true,"sub":"u-1","aud":"gate","exp":99999999999999999999}`, `{"active":true,"sub":"u-1","aud":"gate","nbf":1e300}`, `{"active":true,"sub":"u-1","aud":"gate","iat":"x","exp":null}`,
		`{"active":true,"sub":"u-1","aud":"gate","iss":"https://other"}`, `{"active":true,"sub":"u-1","aud":"gate","iss":1}`,
		`{"active":true,"sub":7,"aud":"gate"}`, `{"active":true,"sub":"u-1","aud":{"a":"gate"}}`, `[]`, `null`, `{}`, ``, `{"active":true,"sub":"u-1","aud":"gate"} {}`,
		"\ufeff{\"active\":true,\"sub\":\"u-1\",\"aud\":\"gate\"}", `{"active":true,"sub":"\ud800","aud":"gate"}`, `{"active":true,"sub":"u-1","aud":"gate","act":[]}`,
	} {
		f.Add(seed)
	}
	v := asking(f, nil)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := v.introspect.judge(v, []byte(text))
		if err != nil || a.refused != nil {
			if a.identity.Subject != "" {
				t.Errorf("%s is refused and yet %+v", text, a.identity)
			}
			return
		}
		var said map[string]any
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			t.Fatalf("%s is taken, and no JSON: %v", text, err)
		}
		audiences, _ := said["aud"].([]any)
		switch end, ends := said["exp"].(float64); {
		case said["active"] != true:
			t.Errorf("%s says nothing of an active token", text)
		case said["sub"] != a.identity.Subject || a.identity.Subject == "":
			t.Errorf("%s names another than %q", text, a.identity.Subject)
		case said["aud"] != "gate" && !slices.Contains(audiences, any("gate")):
			t.Errorf("%s is for others", text)
		case said["iss"] != nil && said["iss"] != "https://idp.example.com":
			t.Errorf("%s is of another issuer", text)
		case ends && end < float64(start.Add(-skew).Unix()):
			t.Errorf("%s is over", text)
		case said["exp"] != nil && !ends:
			t.Errorf("%s ends at no time", text)
		}
	})
}

// Whatever the owner of a bound token signs, it passes only as a proof for just
// this request and this token, of now.
func FuzzProof(f *testing.F) {
	r := newRig(f)
	ann := newHolder(f)
	token := r.es.token(f, r.claims(map[string]any{"cnf": map[string]any{"jkt": ann.thumbprint}}))
	const url = "https://gate.test/crm/refunds"
	for _, seed := range []string{
		`{"jti":"p","htm":"POST","htu":"` + url + `","iat":1772366400,"ath":"` + ath(token) + `"}`,
		`{"jti":"p","htm":"POST","htu":"` + url + `?a#b","iat":1772366400.5,"ath":"` + ath(token) + `"}`,
		`{"jti":"p","htm":"POST","htu":"` + url + `","iat":1e300,"ath":"` + ath(token) + `"}`,
		`{"jti":"p","htm":"POST","htu":"` + url + `","iat":-1e300,"ath":"` + ath(token) + `"}`,
		`{"jti":"p","htm":"GET","HTM":"POST","htu":"` + url + `","iat":1772366400,"ath":"` + ath(token) + `"}`,
		`{"jti":"p","htm":"POST","htu":"https://gate.test/crm/%72efunds","iat":1772366400,"ath":"` + ath(token) + `"}`,
		`{"jti":"","htm":"POST","htu":"` + url + `","iat":1772366400,"ath":"` + ath(token) + `"}`,
		`{"jti":"p"}`, `{}`, `null`, `[]`, ``, `{"jti":1,"iat":"x"}`,
	} {
		f.Add(seed, "", "")
		f.Add(seed, `"typ":"JWT"`, "DPoP")
	}
	f.Fuzz(func(t *testing.T, payload, header, scheme string) {
		head := `{"typ":"dpop+jwt","alg":"ES256","jwk":` + string(asJSON(t, ann.public))
		if header != "" {
			head += "," + header
		}
		shown := with("authorization", "DPoP "+token, "dpop", raw(t, signer{private: ann.key}, head+"}", payload))
		if scheme != "" {
			shown[0].Value = scheme + " " + token
		}
		r.proofs.seen.Purge()
		id, err := r.Caller(t.Context(), Request{Headers: shown, Method: "POST", Scheme: "https", Authority: "gate.test", Path: "/crm/refunds"})
		if err != nil {
			return
		}
		var said struct {
			ID, Method, URL, Token string
			Issued                 float64
		}
		names := map[string]any{}
		if err := json.Unmarshal([]byte(payload), &names); err != nil {
			t.Fatalf("%q is taken, and no JSON: %v", payload, err)
		}
		said.ID, _ = names["jti"].(string)
		said.Method, _ = names["htm"].(string)
		said.URL, _ = names["htu"].(string)
		said.Token, _ = names["ath"].(string)
		said.Issued, _ = names["iat"].(float64)
		age := float64(start.Unix()) - said.Issued
		if id.Subject != "u-1" || said.ID == "" || said.Method != "POST" || said.Token != ath(token) || age > (proofAge+skew).Seconds()+1 || age < -skew.Seconds()-1 {
			t.Errorf("%q proves something: %+v", payload, id)
		}
		if !sameURL(said.URL, Request{Scheme: "https", Authority: "gate.test", Path: "/crm/refunds"}) {
			t.Errorf("%q is for another URL", payload)
		}
	})
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	must(t, err)
	return out
}
