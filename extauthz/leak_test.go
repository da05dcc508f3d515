package extauthz

import (
	"fmt"
	"slices"
	"strings"
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

// Nor in the body, however it is written there. A line more is a case more.
func TestCallersCredentialInBody(t *testing.T) {
	r := newRig(t)
	unicode := `\u` + fmt.Sprintf("%04x", plantedToken[0]) + plantedToken[1:]
	for name, text := range map[string]string{
		"in an argument":        `{"amount":5,"note":"` + plantedToken + `"}`,
		"inside one":            `{"amount":5,"note":"use Bearer ` + plantedToken + `."}`,
		"with a letter escaped": `{"amount":5,"note":"` + unicode + `"}`,
		"deep":                  `{"amount":5,"a":[{"b":["` + unicode + `"]}]}`,
		"as a name":             `{"amount":5,"` + plantedToken + `":1}`,
		"in what is no JSON":    plantedToken,
		"twice":                 `{"amount":5,"note":"` + plantedToken + `","also":"` + unicode + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r.check(t, request(to("crm", "/crm/refunds"), body(text))).denied(t, 400, call.ReasonMalformedRequest)
			events := r.recorder.all()
			e := events[len(events)-1].Decided
			if all := string(e.Body.Head) + string(e.ArgsJSON); strings.Contains(all, plantedToken) || strings.Contains(all, plantedToken[1:]) {
				t.Errorf("the record has it: %s", all)
			}
		})
	}
	if a := r.check(t, request(to("crm", "/crm/refunds"), body(`{"amount":5,"note":"`+plantedToken[:11]+`"}`))); a.GetOkResponse() == nil {
		t.Errorf("a part of it is no credential: %v", a.CheckResponse)
	}
}

func escapeFirst(s string) string {
	const hex = "0123456789ABCDEF"
	return "%" + string(hex[s[0]>>4]) + string(hex[s[0]&15]) + s[1:]
}
