package policies

import (
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

// A rule that looks at arguments denies a call whose arguments nobody has read,
// even where it would be happy with none. A line more is a case more.
func TestUnread(t *testing.T) {
	for when, denied := range map[string]bool{
		``:                                             false,
		`identity.kind == "human"`:                     false,
		`call.function.endsWith("Upload")`:             false,
		`call.headers["x-team"] == "a"`:                false,
		`call.args.size() == 0`:                        true,
		`!has(call.args.amount)`:                       true,
		`!("amount" in call.args)`:                     true,
		`call.args.?amount.orValue(0) < 100`:           true,
		`[call].all(c, !has(c.args.amount))`:           true,
		`json.strings(call.args).size() == 0`:          true,
		`call.body_size == 0`:                          true,
		`!schema.valid(call.args)`:                     true,
		`true || call.args.amount > 1`:                 true,
		`{"a": call.args}.size() == 1`:                 true,
		`identity.groups.all(g, !(g in call.args))`:    true,
		`identity.kind == "human" && call.id != "x"`:   false,
		`identity.calls("*", duration("1m")) < 100000`: false,
	} {
		c := &call.Call{Connection: "files", Protocol: call.GRPC, Function: "p.S/Upload", Unread: true, Identity: call.Identity{Issuer: "i", Subject: "s", Kind: call.Human},
			Request: call.Request{Headers: call.Headers{{Name: "x-team", Value: "a"}}}}
		for name, make := range map[string]func() (*Set, error){
			"rule": func() (*Set, error) {
				return Compile([]Rule{{Name: "r", Action: Allow, When: when}}, Config{Version: "v", Counter: none{}, Connections: []Connection{{Name: "files", Protocol: call.GRPC}}})
			},
			"grant": func() (*Set, error) {
				return Compile(nil, Config{Version: "v", Counter: none{}, Connections: []Connection{{Name: "files", Protocol: call.GRPC}},
					Grants: []Grant{{Name: "g", Identities: []string{"s"}, Connections: []string{"*"}, Functions: []string{"*"}, When: when}}})
			},
		} {
			s, err := make()
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			r := s.Decide(t.Context(), c)
			if (r.Action == call.ActionDeny) != denied || denied && (r.Reason != call.ReasonPolicyError || !strings.Contains(r.Message, "not read")) {
				t.Errorf("%s %q: %s %s %q, want denied %v", name, when, r.Action, r.Reason, r.Message, denied)
			}
		}
	}
}

// none has counted nothing.
type none struct{}

func (none) Count(*call.Call)                                              {}
func (none) InSession(*call.Call, func(string) bool, time.Duration) int64  { return 0 }
func (none) ByIdentity(*call.Call, func(string) bool, time.Duration) int64 { return 0 }
func (none) First(*call.Call) bool                                         { return false }
