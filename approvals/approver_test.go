package approvals

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

func TestMayDecide(t *testing.T) {
	who := func(issuer, subject string, groups ...string) call.Identity {
		return call.Identity{Issuer: issuer, Subject: subject, Kind: call.Human, Groups: groups}
	}
	with := func(i call.Identity, change func(*call.Identity)) call.Identity { change(&i); return i }
	const idp, other = "https://idp.example.com", "https://other.example.com"
	h := Hold{
		Identity: call.Identity{Issuer: idp, Subject: "joe", Kind: call.Agent, Email: "joe@corp.example",
			Actors: []call.Actor{{Issuer: idp, Subject: "bot"}, {Subject: "relay"}, {Issuer: idp, Subject: "Zoë@corp.example"}}},
		Terms: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"leads"}, People: []string{"carl", idp + "|dora", "auth0|emil", "spiffe://td/x"}}}}},
	}
	for _, c := range []struct {
		name string
		by   call.Identity
		want error
	}{
		{"in the group", who(idp, "ann", "staff", "leads"), nil},
		{"kind unknown", with(who(idp, "ann", "leads"), func(i *call.Identity) { i.Kind = "" }), nil},
		{"named", who(other, "carl"), nil},
		{"named with issuer", who(idp, "dora"), nil},
		{"named, a bar in the subject", who(other, "auth0|emil"), nil},
		{"named, a URI", who(other, "spiffe://td/x"), nil},

		{"nobody", call.Identity{Groups: []string{"leads"}}, ErrNotApprover},
		{"not in the group", who(idp, "ann", "staff"), ErrNotApprover},
		{"the group in another case", who(idp, "ann", "Leads"), ErrNotApprover},
		{"the group with a blank", who(idp, "ann", "leads "), ErrNotApprover},
		{"an empty group", who(idp, "ann", ""), ErrNotApprover},
		{"named in another case", who(idp, "Carl"), ErrNotApprover},
		{"named with another issuer", who(other, "dora"), ErrNotApprover},
		{"spelt like a named one", who(other, idp+"|dora"), ErrNotApprover},
		{"an agent for an approver", with(who(idp, "ann", "leads"), func(i *call.Identity) { i.Actors = []call.Actor{{Subject: "bot2"}} }), ErrNotApprover},
		{"an agent", with(who(idp, "bot2", "leads"), func(i *call.Identity) { i.Kind = call.Agent }), ErrNotApprover},
		{"a CI job", with(who(idp, "ci", "leads"), func(i *call.Identity) { i.Kind = call.CI }), ErrNotApprover},
		{"a workload", with(who(idp, "w", "leads"), func(i *call.Identity) { i.Kind = call.Workload }), ErrNotApprover},

		{"the caller", who(idp, "joe", "leads"), ErrSelfApproval},
		{"the caller in another case", who(idp, "JOE", "leads"), ErrSelfApproval},
		{"the caller in wide letters", who(idp, "ｊｏｅ", "leads"), ErrSelfApproval},
		{"the caller with a blank", who(idp, "joe ", "leads"), ErrSelfApproval},
		{"the caller's issuer in another case and with a slash", who("HTTPS://idp.example.com/", "joe", "leads"), ErrSelfApproval},
		{"the caller, issuer unknown", who("", "joe", "leads"), ErrSelfApproval},
		{"an actor", who(idp, "bot", "leads"), ErrSelfApproval},
		{"an actor without issuer", who(other, "relay", "leads"), ErrSelfApproval},
		{"a mail address at another issuer", who(other, "zoë@CORP.example", "leads"), ErrSelfApproval},
		{"a mail address, composed otherwise", who(other, "Zoe\u0308@corp.example", "leads"), ErrSelfApproval},
		{"the caller's name at another issuer", who(other, "joe", "leads"), ErrSelfApproval},
		{"the caller's name, by an API key", with(who("callgate://keys", "Joe", "leads"), func(i *call.Identity) { i.Method = "key" }), ErrSelfApproval},
		{"an actor's name at another issuer", who(other, "bot", "leads"), ErrSelfApproval},
		{"the caller's address at another issuer", with(who(other, "00u1", "leads"), func(i *call.Identity) { i.Email = "Joe@corp.example" }), ErrSelfApproval},
		{"the caller's address as the subject", who(other, "joe@corp.example", "leads"), ErrSelfApproval},
		{"an actor's name as the address", with(who(other, "00u1", "leads"), func(i *call.Identity) { i.Email = "zoë@corp.example" }), ErrSelfApproval},
		{"another address", with(who(other, "00u1", "leads"), func(i *call.Identity) { i.Email = "ann@corp.example" }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := mayDecide(&h, c.by, true, nil, time.Now())
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if errors.Is(err, ErrSelfApproval) && !strings.Contains(err.Error(), "ask another approver (groups leads; carl") {
				t.Errorf("says %q", err)
			}
		})
	}
	if _, err := mayDecide(&Hold{Identity: call.Identity{Subject: "joe"}}, who(idp, "ann", "leads"), true, nil, time.Now()); !errors.Is(err, ErrNotApprover) {
		t.Errorf("a hold without approvers: %v", err)
	}
}

// Approvers of a call that is over are told how it ended, not that others are asked
// now, nor of a delegation that has nothing to do with it.
func TestOverIsToldFirst(t *testing.T) {
	const idp = "https://idp.example.com"
	joe, ann := call.Identity{Issuer: idp, Subject: "joe"}, call.Identity{Issuer: idp, Subject: "ann", Groups: []string{"leads"}}
	delegations := []Delegation{{From: joe, To: idp + "|ann", Until: time.Now().Add(time.Hour)}}
	for name, state := range map[string]State{"approved": Approved, "used": Used, "expired": Expired, "refused": Refused, "canceled": Canceled} {
		h := Hold{Identity: joe, Terms: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"leads"}}}}}, Status: Status{State: state, Stage: 1}}
		if _, err := mayDecide(&h, ann, true, delegations, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := h.Decide(Verdict{Approve: true, At: time.Now()}); !errors.Is(err, ErrDecided) && !errors.Is(err, ErrExpired) && !errors.Is(err, ErrCanceled) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := mayDecide(&h, call.Identity{Issuer: idp, Subject: "carl"}, true, nil, time.Now()); !errors.Is(err, ErrNotApprover) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := Hold{Identity: joe, Terms: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"owners"}}}, {Approvers: call.Approvers{Groups: []string{"leads"}}}}}, Status: Status{State: Open}}
	if _, err := mayDecide(&h, ann, true, delegations, time.Now()); !errors.Is(err, ErrNotApprover) || !strings.Contains(err.Error(), "is asked in stage 2 of 2") {
		t.Errorf("%v", err)
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newID(idPrefix)
		if len(id) != len(idPrefix)+16 || !strings.HasPrefix(id, idPrefix) || id != strings.ToLower(id) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}
