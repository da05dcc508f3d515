package extauthz

import (
	"slices"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
)

// No condition tells a caller whether it knows what masks hide.
func TestConditions(t *testing.T) {
	for name, tt := range map[string]struct {
		method, header, value string
		gone, denied          bool
	}{
		"if-match":                    {"PUT", "if-match", `"x"`, false, true},
		"if-match of a read":          {"GET", "if-match", `"x", "y"`, false, true},
		"if-match, weak":              {"POST", "if-match", `W/"x"`, false, true},
		"if-match, any":               {"PUT", "if-match", "*", false, false},
		"if-none-match":               {"GET", "if-none-match", `"x"`, true, false},
		"if-none-match, head":         {"HEAD", "if-none-match", `W/"x"`, true, false},
		"if-none-match, any":          {"PUT", "if-none-match", " * ", false, false},
		"if-none-match of a write":    {"PUT", "if-none-match", `"x"`, false, true},
		"any, and a tag":              {"PUT", "if-none-match", `*, "x"`, false, true},
		"if-modified-since":           {"GET", "if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT", false, false},
		"if-unmodified-since":         {"PUT", "if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT", false, false},
		"empty, which is no such tag": {"GET", "if-none-match", "", true, false},
	} {
		for _, masked := range []bool{true, false} {
			r := newRig(t)
			if masked {
				r.conns["crm"].Mask = call.Mask{Rules: []call.MaskRule{{Name: "cards", Detect: []string{"card"}}}}
			} else {
				r.conns["crm"].Mask = call.Mask{}
			}
			r.conns["crm"].Parser = anything{}
			r.activate(t)
			a := r.check(t, request(body(""), func(req *authv3.CheckRequest) {
				req.Attributes.Request.Http.Method = tt.method
				add(tt.header, tt.value)(req)
			}))
			if masked && tt.denied {
				a.denied(t, 400, call.ReasonMalformedRequest)
				continue
			}
			ok := a.GetOkResponse()
			if ok == nil || slices.Contains(ok.HeadersToRemove, tt.header) != (masked && tt.gone) {
				t.Errorf("%s, masked %v: %v", name, masked, ok)
			}
		}
	}
}
