package extauthz

import (
	"slices"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
)

// The caller's own credential is for the gateway alone, wherever it stands.
func TestCallersCredentialElsewhere(t *testing.T) {
	r := newRig(t)
	get := func(req *authv3.CheckRequest) { httpOf(req).Method = "GET" }
	for name, query := range map[string]string{
		"in a parameter":         "?access_token=" + plantedToken,
		"in the middle of it":    "?next=https://a.test/?t=" + plantedToken + "%26x",
		"as a key":               "?" + plantedToken + "=1",
		"in the path":            "/" + plantedToken,
		"with a letter escaped":  "?access_token=" + escapeFirst(plantedToken),
		"behind another of them": "?access_token=1&access_token=" + plantedToken,
	} {
		t.Run(name, func(t *testing.T) {
			r.check(t, request(to("crm", "/crm/refunds"+query), body(""), get)).denied(t, 400, call.ReasonMalformedRequest)
		})
	}

	a := r.check(t, request(add("x-forwarded-authorization", "Bearer "+plantedToken), add("x-team", "a"), add("x-id-token", plantedToken+", "+plantedToken)))
	if a.GetOkResponse() == nil {
		t.Fatalf("%v", a.CheckResponse)
	}
	removed := a.GetOkResponse().GetHeadersToRemove()
	for name, want := range map[string]bool{"x-forwarded-authorization": true, "x-id-token": true, "x-team": false, "content-type": false} {
		if got := slices.Contains(removed, name); got != want {
			t.Errorf("%s is removed: %v", name, got)
		}
	}
}

func escapeFirst(s string) string {
	const hex = "0123456789ABCDEF"
	return "%" + string(hex[s[0]>>4]) + string(hex[s[0]&15]) + s[1:]
}
