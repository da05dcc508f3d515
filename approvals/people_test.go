package approvals_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

func person(subject string, groups ...string) call.Identity {
	return call.Identity{Issuer: "https://idp", Subject: subject, Kind: call.Human, Groups: groups}
}

// inOrder asks two of security, then an owner, with a reason.
func inOrder() call.Ruling {
	r := leads
	r.Hold.Reason = true
	r.Hold.Stages = []call.Stage{{Approvers: call.Approvers{Groups: []string{"security"}}, Need: 2}, {Approvers: call.Approvers{Groups: []string{"owners"}}}}
	r.Hold.BreakGlass = call.Approvers{Groups: []string{"oncall"}}
	return r
}

// attempt is one person's try to decide; a row can be added by whoever thinks of
// another way around. joe is the caller, bot acts for him.
type attempt struct {
	by      call.Identity
	no      bool
	comment string
	want    error
}

// Who decides, when, and how often.
func TestWhoDecides(t *testing.T) {
	sec1, sec2, sec3 := person("sec1", "security"), person("sec2", "security"), person("sec3", "security")
	own, both := person("own", "owners"), person("both", "security", "owners")
	agent := sec1
	agent.Actors = []call.Actor{{Issuer: "https://idp", Subject: "helper"}}
	why := func(by call.Identity) attempt { return attempt{by: by, comment: "looked at it"} }
	but := func(by call.Identity, err error) attempt { return attempt{by: by, comment: "looked at it", want: err} }
	refuse := func(by call.Identity) attempt { return attempt{by: by, no: true, comment: "no"} }
	elsewhere := func(subject, email string, groups ...string) call.Identity {
		return call.Identity{Issuer: "https://other", Subject: subject, Kind: call.Human, Groups: groups, Email: email}
	}
	delegate := func(from, to string, groups ...string) approvals.Delegation {
		now := time.Now()
		return approvals.Delegation{ID: "dlg_" + from + to, From: person(from, groups...), To: to, Created: now, Until: now.Add(time.Hour)}
	}
	for name, c := range map[string]struct {
		delegations func() []approvals.Delegation
		attempts    []attempt
		want        approvals.State
	}{
		"in order":                    {nil, []attempt{why(sec1), why(sec2), why(own)}, approvals.Used},
		"the owner first":             {nil, []attempt{but(own, approvals.ErrNotApprover), why(sec1)}, approvals.Open},
		"one person twice":            {nil, []attempt{why(sec1), but(sec1, approvals.ErrTwice)}, approvals.Open},
		"one person, two spellings":   {nil, []attempt{why(sec1), but(person("SEC1", "security"), approvals.ErrTwice)}, approvals.Open},
		"one person, two issuers":     {nil, []attempt{why(sec1), but(elsewhere("sec1", "", "security"), approvals.ErrTwice)}, approvals.Open},
		"one address, two issuers":    {nil, []attempt{why(elsewhere("00u1", "s@corp.example", "security")), but(elsewhere("ann", "S@corp.example", "security"), approvals.ErrTwice)}, approvals.Open},
		"an address that is a name":   {nil, []attempt{why(elsewhere("00u1", "s@corp.example", "security")), but(person("s@corp.example", "security"), approvals.ErrTwice)}, approvals.Open},
		"two addresses":               {nil, []attempt{why(elsewhere("00u1", "s@corp.example", "security")), why(elsewhere("00u2", "t@corp.example", "security"))}, approvals.Open},
		"one person in both stages":   {nil, []attempt{why(both), why(sec1), but(both, approvals.ErrTwice), why(own)}, approvals.Used},
		"a third of security":         {nil, []attempt{why(sec1), why(sec2), but(sec3, approvals.ErrNotApprover)}, approvals.Open},
		"without a reason":            {nil, []attempt{{by: sec1, comment: " ", want: approvals.ErrInvalid}}, approvals.Open},
		"an approver's agent":         {nil, []attempt{but(agent, approvals.ErrNotApprover)}, approvals.Open},
		"the caller":                  {nil, []attempt{but(person("joe", "security"), approvals.ErrSelfApproval)}, approvals.Open},
		"the caller's agent":          {nil, []attempt{but(person("bot", "security"), approvals.ErrSelfApproval)}, approvals.Open},
		"a no of the second":          {nil, []attempt{why(sec1), refuse(sec2), but(sec3, approvals.ErrDecided)}, approvals.Refused},
		"a no of who is asked later":  {nil, []attempt{why(sec1), refuse(own)}, approvals.Refused},
		"a no of who said yes":        {nil, []attempt{why(sec1), refuse(sec1)}, approvals.Refused},
		"a no of nobody":              {nil, []attempt{{by: person("eve", "sales"), no: true, comment: "no", want: approvals.ErrNotApprover}}, approvals.Open},
		"through a delegate":          {func() []approvals.Delegation { return []approvals.Delegation{delegate("sec1", "dan", "security")} }, []attempt{why(person("dan")), why(sec2), why(own)}, approvals.Used},
		"the approver and a delegate": {func() []approvals.Delegation { return []approvals.Delegation{delegate("sec1", "dan", "security")} }, []attempt{why(sec1), but(person("dan"), approvals.ErrTwice)}, approvals.Open},
		"a delegate of two": {func() []approvals.Delegation {
			return []approvals.Delegation{delegate("sec1", "dan", "security"), delegate("sec2", "dan", "security")}
		}, []attempt{why(person("dan")), but(person("dan"), approvals.ErrTwice)}, approvals.Open},
		"a delegate of one who decided and of one who did not": {func() []approvals.Delegation {
			return []approvals.Delegation{delegate("sec1", "dan", "security"), delegate("sec2", "dan", "security")}
		}, []attempt{why(sec1), why(person("dan")), why(own)}, approvals.Used},
		"a delegate of a delegate": {func() []approvals.Delegation {
			return []approvals.Delegation{delegate("sec1", "dan", "security"), delegate("dan", "eve")}
		}, []attempt{but(person("eve"), approvals.ErrNotApprover)}, approvals.Open},
		"a delegate of the caller": {func() []approvals.Delegation { return []approvals.Delegation{delegate("joe", "dan", "security")} }, []attempt{but(person("dan"), approvals.ErrNotApprover)}, approvals.Open},
		"the caller as a delegate": {func() []approvals.Delegation { return []approvals.Delegation{delegate("sec1", "joe", "security")} }, []attempt{but(person("joe"), approvals.ErrSelfApproval)}, approvals.Open},
		"the delegate's namesake": {func() []approvals.Delegation {
			return []approvals.Delegation{delegate("sec1", "https://idp|dan", "security")}
		}, []attempt{but(call.Identity{Issuer: "https://other", Subject: "dan", Kind: call.Human}, approvals.ErrNotApprover)}, approvals.Open},
		"a name of another issuer": {func() []approvals.Delegation { return []approvals.Delegation{delegate("sec1", "dan", "security")} },
			[]attempt{but(elsewhere("dan", ""), approvals.ErrNotApprover)}, approvals.Open},
		"the delegate's agent": {func() []approvals.Delegation { return []approvals.Delegation{delegate("sec1", "dan", "security")} }, []attempt{but(call.Identity{Issuer: "https://idp", Subject: "dan", Kind: call.Human, Actors: []call.Actor{{Subject: "x"}}}, approvals.ErrNotApprover)}, approvals.Open},
		"a delegation that is over": {func() []approvals.Delegation {
			d := delegate("sec1", "dan", "security")
			d.Until = time.Now().Add(time.Second)
			return []approvals.Delegation{d}
		}, []attempt{but(person("dan"), approvals.ErrNotApprover)}, approvals.Open},
		"a delegation to come": {func() []approvals.Delegation {
			d := delegate("sec1", "dan", "security")
			d.Created = time.Now().Add(time.Hour)
			return []approvals.Delegation{d}
		}, []attempt{but(person("dan"), approvals.ErrNotApprover)}, approvals.Open},
		"a delegation of a bystander": {func() []approvals.Delegation { return []approvals.Delegation{delegate("eve", "dan", "sales")} }, []attempt{but(person("dan"), approvals.ErrNotApprover)}, approvals.Open},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(storetest.NewMemory())
				if c.delegations != nil {
					for _, one := range c.delegations() {
						if err := d.store.Delegate(t.Context(), one); err != nil {
							t.Fatal(err)
						}
					}
				}
				h, out := d.hold(t.Context(), refund(t), inOrder())
				time.Sleep(2 * time.Second)
				for i, a := range c.attempts {
					if err := d.say(h.ID, a.by, !a.no, a.comment); !errors.Is(err, a.want) || (err == nil) != (a.want == nil) {
						t.Errorf("%d, %s: got %v, want %v", i, a.by.Subject, err, a.want)
					}
				}
				synctest.Wait()
				if st, err := d.store.Status(t.Context(), h.ID); err != nil || st.State != c.want {
					t.Errorf("%+v, %v; want %s", st, err, c.want)
				}
				got := <-out // at its end, where it is still open
				if (got.Outcome == call.HoldAllow) != (c.want == approvals.Used) {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

// Everybody's part is on record.
func TestStepsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		h, out := d.hold(t.Context(), refund(t), inOrder())
		sec1 := person("sec1", "security")
		for range 2 { // told once
			if _, err := d.Look(t.Context(), h.ID, sec1); err != nil {
				t.Fatal(err)
			}
		}
		// Who asked, and whom it does not concern, leave no mark.
		if _, err := d.Look(t.Context(), h.ID, person("joe")); err != nil {
			t.Error(err)
		}
		if _, err := d.Look(t.Context(), h.ID, person("eve", "sales")); !errors.Is(err, approvals.ErrNotFound) {
			t.Errorf("eve is shown it: %v", err)
		}
		for _, by := range []call.Identity{sec1, person("sec2", "security"), person("own", "owners")} {
			if err := d.say(h.ID, by, true, "fine"); err != nil {
				t.Fatal(err)
			}
		}
		got := <-out
		if !slices.Equal(got.Approval.By, []string{"https://idp|sec1", "https://idp|sec2", "https://idp|own"}) {
			t.Errorf("decided by %q", got.Approval.By)
		}
		d.trail.want(t, "held asked", "approved seen", "approved approved", "approved approved", "approved stage_done", "approved approved", "approved used")
		if e := d.trail.events[4].Approval; e.Stage != 1 || e.Stages != 2 || e.State != "open" || e.Connection != "crm" {
			t.Errorf("got %+v", e)
		}
		if e := d.trail.events[5].Approval; e.Stage != 2 || e.State != "approved" || e.By != "https://idp|own" {
			t.Errorf("got %+v", e)
		}
	})
}

func TestBreakGlass(t *testing.T) {
	oncall := person("olga", "oncall")
	agent := oncall
	agent.Actors = []call.Actor{{Subject: "bot"}}
	for name, c := range map[string]struct {
		by      call.Identity
		reasons []string
		passes  bool
	}{
		"on call":              {oncall, []string{" the shop is on fire "}, true},
		"somebody else":        {person("joe", "sales"), []string{"fire"}, false},
		"an approver":          {person("sec1", "security"), []string{"fire"}, false},
		"an agent for on-call": {agent, []string{"fire"}, false},
		"without a reason":     {oncall, []string{"  "}, false},
		"with two reasons":     {oncall, []string{"fire", "water"}, false},
		"with control bytes":   {oncall, []string{"fi\x1b[2Jre"}, false},
		"with no text":         {oncall, []string{"\xff"}, false},
		"with too much":        {oncall, []string{strings.Repeat("fire", 2000)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(storetest.NewMemory())
				c2 := refund(t)
				c2.Identity = c.by
				for _, r := range c.reasons {
					c2.Request.Headers = append(c2.Request.Headers, call.Header{Name: call.HeaderBreakGlass, Value: r})
				}
				got := d.Hold(t.Context(), c2, inOrder())
				if !c.passes {
					if got.Outcome != call.Deny || got.Reason != call.ReasonBreakGlassRefused || got.Message == "" {
						t.Errorf("got %+v", got)
					}
					d.trail.want(t)
					return
				}
				if got.Outcome != call.HoldAllow || got.Reason != call.ReasonBreakGlass || got.Approval == nil {
					t.Fatalf("got %+v", got)
				}
				d.trail.want(t, "approved broke_glass")
				id := got.Approval.ID
				if n, err := d.store.Undelivered(t.Context(), "hook"); err != nil || n != 1 {
					t.Errorf("%d alerts, %v", n, err)
				}
				review := func(by call.Identity, comment string, want error) {
					t.Helper()
					if _, err := d.Review(t.Context(), id, by, true, comment); !errors.Is(err, want) || (err == nil) != (want == nil) {
						t.Errorf("%s: got %v, want %v", by.Subject, err, want)
					}
				}
				review(oncall, "fine", approvals.ErrSelfApproval)
				review(person("olga", "security"), "fine", approvals.ErrSelfApproval)
				review(person("eve", "sales"), "fine", approvals.ErrNotApprover)
				review(agent, "fine", approvals.ErrNotApprover)
				review(person("own", "owners"), " ", approvals.ErrInvalid)
				review(person("own", "owners"), "it was on fire", nil)
				review(person("sec1", "security"), "again", approvals.ErrDecided)
				d.trail.want(t, "approved broke_glass", "approved reviewed")
			})
		})
	}
	// The store must keep it for review, and the trail must have it.
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		c := refund(t)
		c.Identity = oncall
		c.Request.Headers = append(c.Request.Headers, call.Header{Name: call.HeaderBreakGlass, Value: "fire"})
		d.memory.Fail(errors.New("away"))
		check(t, d.Hold(t.Context(), c, inOrder()), call.Deny, call.ReasonApprovalUnavailable)
		d.memory.Fail(nil)
		d.trail.fail["broke_glass"] = errors.New("full")
		check(t, d.Hold(t.Context(), c, inOrder()), call.HoldDeny, call.ReasonAuditUnavailable)
	})
}

func TestDelegate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		ann := person("ann", "security")
		soon := time.Now().Add(time.Hour)
		for name, bad := range map[string]func() (approvals.Delegation, error){
			"to oneself":             func() (approvals.Delegation, error) { return d.Delegate(t.Context(), ann, "ANN", soon, "") },
			"to oneself with issuer": func() (approvals.Delegation, error) { return d.Delegate(t.Context(), ann, "https://idp|ann", soon, "") },
			"to nobody":              func() (approvals.Delegation, error) { return d.Delegate(t.Context(), ann, " ", soon, "") },
			"without an end":         func() (approvals.Delegation, error) { return d.Delegate(t.Context(), ann, "dan", time.Time{}, "") },
			"for ever": func() (approvals.Delegation, error) {
				return d.Delegate(t.Context(), ann, "dan", soon.Add(91*24*time.Hour), "")
			},
			"with control bytes": func() (approvals.Delegation, error) { return d.Delegate(t.Context(), ann, "dan\x1b", soon, "") },
		} {
			if _, err := bad(); !errors.Is(err, approvals.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		bot := ann
		bot.Actors = []call.Actor{{Subject: "bot"}}
		if _, err := d.Delegate(t.Context(), bot, "dan", soon, ""); !errors.Is(err, approvals.ErrNotApprover) {
			t.Errorf("an agent delegated: %v", err)
		}
		one, err := d.Delegate(t.Context(), ann, "dan", soon, "away")
		if err != nil {
			t.Fatal(err)
		}
		for who, sees := range map[string]bool{"ann": true, "dan": true, "eve": false} {
			if list, err := d.Delegations(t.Context(), person(who), false); err != nil || (len(list) == 1) != sees {
				t.Errorf("%s sees %+v, %v", who, list, err)
			}
		}
		if _, err := d.Undelegate(t.Context(), one.ID, person("eve")); !errors.Is(err, approvals.ErrNotFound) {
			t.Errorf("eve took it back: %v", err)
		}
		if _, err := d.Undelegate(t.Context(), " "+strings.ToUpper(one.ID), person("dan")); err != nil {
			t.Error(err)
		}
		d.trail.want(t, "approved delegated", "approved undelegated")
		if e := d.trail.events[0]; e.CallID != (call.ID{}) || e.Approval.ID != one.ID || e.Approval.InPlaceOf != "https://idp|ann" || e.Approval.Comment != "to https://idp|dan: away" || !e.Approval.Expires.Equal(soon) {
			t.Errorf("got %+v", e.Approval)
		}
	})
}

// A delegation ends with the rights of who gave it, and administrators can end it.
func TestDelegationOfTheRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(storetest.NewMemory())
		ann, dan := person("ann", "leads"), person("dan")
		_, out := d.hold(t.Context(), refund(t), leads)
		one, err := d.Delegate(t.Context(), ann, "dan", time.Now().Add(time.Hour), "away")
		if err != nil {
			t.Fatal(err)
		}
		sees := func(want bool) {
			t.Helper()
			if list, err := d.Mine(t.Context(), approvals.Filter{}, dan); err != nil || (len(list) == 1) != want {
				t.Errorf("dan sees %d, %v", len(list), err)
			}
			if list, err := d.List(t.Context(), approvals.Filter{State: approvals.Open}, &dan); err != nil || (len(list) == 1) != want {
				t.Errorf("dan may decide about %d, %v", len(list), err)
			}
		}
		sees(true)
		time.Sleep(2 * time.Second)
		d.revoked = map[string]time.Time{"ann": time.Now()}
		sees(false)
		d.revoked = map[string]time.Time{"ann": one.Created.Add(-time.Minute)} // an older token
		sees(true)
		if _, err := d.EndDelegation(t.Context(), one.ID, person("root")); err != nil {
			t.Error(err)
		}
		sees(false)
		<-out
	})
}

// A name without an issuer is of the approver's own.
func TestDelegateOfOneIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for to, want := range map[string]string{"dan": "https://idp|dan", "auth0|dan": "https://idp|auth0|dan", "https://idp|dan": "https://idp|dan", "https://partner|dan": "https://partner|dan"} {
			d := newDesk(storetest.NewMemory())
			if one, err := d.Delegate(t.Context(), person("ann", "leads"), to, time.Now().Add(time.Hour), ""); err != nil || one.To != want {
				t.Errorf("%s: %q, %v", to, one.To, err)
			}
		}
	})
}

// A grant comes with an approval when all who could not give it alone gave it.
func TestGrantsOfAnApproval(t *testing.T) {
	g := func(d time.Duration, bounds string, alone bool) approvals.Verdict {
		return approvals.Verdict{Approve: true, By: approvals.Person{Subject: "x"}, Grant: approvals.Grant{For: d, Bounds: bounds, Alone: alone}}
	}
	for name, c := range map[string]struct {
		state    approvals.State
		verdicts []approvals.Verdict
		want     []approvals.Grant
	}{
		"none":             {approvals.Approved, []approvals.Verdict{g(0, "", false)}, nil},
		"one":              {approvals.Approved, []approvals.Verdict{g(time.Hour, "a", false)}, []approvals.Grant{{For: time.Hour, Bounds: "a"}}},
		"one of two":       {approvals.Approved, []approvals.Verdict{g(time.Hour, "", false), g(0, "", false)}, nil},
		"both":             {approvals.Approved, []approvals.Verdict{g(time.Hour, "a || b", false), g(time.Minute, "c", false)}, []approvals.Grant{{For: time.Minute, Bounds: "(a || b\n) && (c\n)"}}},
		"an administrator": {approvals.Approved, []approvals.Verdict{g(time.Hour, "", true), g(0, "", false)}, []approvals.Grant{{For: time.Hour, Alone: true}}},
		"not yet":          {approvals.Open, []approvals.Verdict{g(time.Hour, "", true)}, nil},
		"refused":          {approvals.Refused, []approvals.Verdict{g(time.Hour, "", true)}, nil},
	} {
		h := approvals.Hold{Status: approvals.Status{State: c.state, Verdicts: c.verdicts}}
		if got, _ := h.Grants(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
