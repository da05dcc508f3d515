package extproc

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// Each line is a header and what becomes of it: its values, in order; none: it
// goes.
func TestHeadersMasked(t *testing.T) {
	rules := []call.MaskRule{cards, {Name: "mail", Detect: []string{"email", "jwt"}, How: "partial"}, {Name: "names", Keys: []string{"x-customer-token", "sid"}}, {Name: "gone", Keys: []string{"x-internal"}, How: "drop"}}
	jwt := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
	for name, tt := range map[string]struct {
		name string
		in   []string
		want []string
	}{
		"untouched":            {"x-request-id", []string{"6f1c1b0e-7d1c-4a51-9a52-4111111111f1"}, []string{"6f1c1b0e-7d1c-4a51-9a52-4111111111f1"}},
		"a card":               {"x-card", []string{"a " + card}, []string{"a [redacted:card]"}},
		"two values":           {"x-card", []string{"one", card}, []string{"one", "[redacted:card]"}},
		"by name":              {"x-customer-token", []string{"hunter2"}, []string{"[redacted]"}},
		"dropped":              {"x-internal", []string{"a", "b"}, nil},
		"a redirect":           {"location", []string{"https://x.example/a?card=4111%201111%201111%201111&to=jane%40example.com"}, []string{"https://x.example/a?card=%5Bredacted%3Acard%5D&to=%2A%2A%2A%40example.com"}},
		"a redirect by name":   {"location", []string{"/a?sid=abc&x=1"}, []string{"/a?sid=%5Bredacted%5D&x=1"}},
		"links":                {"link", []string{"</c/4111-1111-1111-1111>; rel=next"}, []string{"</c/%5Bredacted%3Acard%5D>; rel=next"}},
		"a cookie by name":     {"set-cookie", []string{"sid=abc; Path=/; HttpOnly", "theme=dark"}, []string{"sid=[redacted]; Path=/; HttpOnly", "theme=dark"}},
		"a cookie by content":  {"set-cookie", []string{"t=" + jwt + "; Path=/"}, []string{"t=****" + jwt[len(jwt)-4:] + "; Path=/"}},
		"a card in percent":    {"x-card", []string{"%34111111111111111"}, []string{"[redacted:card]"}},
		"a message as of gRPC": {"grpc-message", []string{"card " + card}, []string{"card [redacted:card]"}},
		"a message of no text": {"grpc-status-details-bin", []string{"CAMSFWNhcmQgNDExMTExMTExMTExMTExMQ"}, nil},
		"a name of ours":       {"x-callgate-note", []string{card}, []string{"[redacted:card]"}},
		"a name with a card":   {"x-card-" + card, []string{"yes"}, nil},
		"a name with a date":   {"x-api-20261126", []string{"yes"}, []string{"yes"}},
		"a card in the domain": {"set-cookie", []string{"a=b; Comment=" + card}, []string{"a=b; Comment=[redacted:card]"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, end := range []bool{false, true} { // with a body, and without
				b := start(t)
				x := exchange{mode: duplex, meta: decided(call.HTTP, rules...), headers: slices.Clone(jsonType), headersEnd: end, status: "302"}
				for _, v := range tt.in {
					x.headers = append(x.headers, tt.name, v)
				}
				if !end {
					x.chunks = []string{"{}"}
				}
				got := b.run(t, x)
				if got.err != nil || got.immediate != nil {
					t.Fatalf("%+v", got)
				}
				want := tt.want
				switch {
				case slices.Equal(tt.in, tt.want):
					if len(got.set) != 0 || slices.Contains(got.removed, tt.name) {
						t.Errorf("changed: %v %v", got.set, got.removed)
					}
				case want == nil:
					if !slices.Contains(got.removed, tt.name) || len(got.set) != 0 {
						t.Errorf("not removed: %v, set %v", got.removed, got.set)
					}
				case got.set[tt.name] != want[len(want)-1] || !slices.Equal(slices.Collect(maps.Keys(got.set)), []string{tt.name}):
					t.Errorf("set %v, want %v", got.set, want)
				}
				b.quiet(t)
				if a := b.one(t); (len(a.Masked) > 0) == slices.Equal(tt.in, tt.want) || len(a.Masked) > 0 && a.Masked[0].Path != "header."+tt.name && (a.Masked[0].Path != "header" || !strings.Contains(tt.name, card)) {
					t.Errorf("recorded %+v", a.Masked)
				}
			}
		})
	}
}

// Trailers are masked as headers are, and messages that nobody can read go.
func TestTrailersMasked(t *testing.T) {
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, cards), headers: []string{"content-type", "application/grpc", "x-info-bin", "AAAA"},
		chunks: []string{customer(t, `{}`)}, trailers: []string{"grpc-status", "0", "x-note", card, "x-detail-bin", "AAAA"}})
	if got.err != nil || got.set["x-note"] != "[redacted:card]" || !slices.Contains(got.removed, "x-info-bin") || !slices.Contains(got.removed, "x-detail-bin") {
		t.Errorf("%+v", got)
	}
	b.quiet(t)
}
