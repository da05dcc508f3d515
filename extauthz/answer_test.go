package extauthz

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/callgate/callgate/call"
)

// What an identity may see listed is judged by all that is known of it but its
// claims, so all of that travels.
func TestCallerTravelsWhole(t *testing.T) {
	for _, want := range []call.Identity{
		{Issuer: "https://idp", Subject: "ann", Kind: call.Human, Method: "oidc", Groups: []string{"support"}, Actors: []call.Actor{}},
		{Issuer: "https://idp", Subject: "ann", Kind: call.Human, Method: "exchange", Groups: []string{"support"}, Actors: []call.Actor{{Issuer: "https://agents", Subject: "bot"}},
			Scope: call.Scope{"crm:refunds.*", "tools:tools/call%20search"}},
	} {
		data, err := caller(want).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var got call.Identity
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
