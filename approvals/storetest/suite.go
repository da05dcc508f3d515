// Package storetest is what every approval store must do, as a test suite, and
// a store in memory that does it.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// start is the suite's time. Stores take every time from their caller.
var start = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

// NewHold returns a hold with every field set that a caller sets, asked for at
// start and open for a minute. Its binding is its id's.
func NewHold(t testing.TB, id string, start time.Time) approvals.Hold {
	t.Helper()
	callID, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return approvals.Hold{
		ID: id, CallID: callID, Binding: sha256.Sum256([]byte(id)), PolicyVersion: "v7", Rule: "big-refunds", Message: "ask",
		Identity: call.Identity{Issuer: "https://idp", Subject: "agent-7", Kind: call.Agent, Groups: []string{"support"},
			Actors: []call.Actor{{Issuer: "https://idp", Subject: "bot"}}, Method: "oidc", TokenID: "jti-1", Expires: start.Add(time.Hour)},
		Terms:      Terms(1),
		Connection: "crm", Protocol: call.HTTP, Function: "refunds.create", ArgsJSON: []byte(`{"amount":150}`),
		Request: approvals.Request{Method: "POST", Authority: "crm:8080", Path: "/refunds?x=%00", ContentType: "application/json",
			ContentEncoding: "gzip", Body: []byte("{\"amount\":150}\x00\xff\n")},
		Owner: "replica-1", Targets: []string{"hook"},
		AskedAt: start, Expires: start.Add(time.Minute),
	}
}

// Terms asks stages one after the other, so many of each.
func Terms(need ...int) call.Hold {
	h := call.Hold{Timeout: time.Minute, BreakGlass: call.Approvers{Groups: []string{"oncall"}}}
	for _, n := range need {
		h.Stages = append(h.Stages, call.Stage{Approvers: call.Approvers{Groups: []string{"leads"}, People: []string{"https://idp|ann"}}, Need: n})
	}
	return h
}

// Person is somebody at the suite's issuer.
func Person(subject string) approvals.Person {
	return approvals.Person{Issuer: "https://idp", Subject: subject}
}

// Run runs the suite. Open is called with a new store's place, and may be
// called several times with one place: then the stores are two processes'
// views of the same holds.
func Run(t *testing.T, place func(t *testing.T) (open func(t *testing.T) approvals.Store)) {
	for name, test := range map[string]func(*testing.T, func(*testing.T) approvals.Store){
		"Keep": testKeep, "NotFound": testNotFound, "Decide": testDecide, "DecideEnded": testDecideEnded, "Use": testUse, "End": testEnd,
		"Expire": testExpire, "List": testList, "Changes": testChanges, "Prune": testPrune, "Erase": testErase, "Canceled context": testContext,
		"Stages": testStages, "Ask again": testAskAgain, "Ask too often": testAskTooOften, "Break glass": testBreakGlass, "Marks": testMarks, "Last approved": testLastApproved,
		"Outbox": testOutbox, "Outbox leases": testOutboxLeases, "Replay": testReplay, "Delegations": testDelegations, "Sessions": testSessions,
		"Race to use": testRaceUse, "Race to decide": testRaceDecide, "Race of ends": testRaceEnds, "Race to expire": testRaceExpire,
		"Race of many": testRaceMany, "Race to ask": testRaceAsk, "Race to ask often": testRaceAskOften, "Race to lease": testRaceLease,
	} {
		t.Run(name, func(t *testing.T) { test(t, place(t)) })
	}
}

func create(t *testing.T, s approvals.Store, holds ...approvals.Hold) {
	t.Helper()
	for _, h := range holds {
		c, err := s.Ask(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Steps) != 1 || c.Steps[0].Name != approvals.StepAsked || c.Hold.ID != h.ID {
			t.Fatalf("asked for %s and got %+v", h.ID, c)
		}
	}
}

func state(t *testing.T, s approvals.Store, id string, want approvals.State) approvals.Status {
	t.Helper()
	st, err := s.Status(t.Context(), id)
	if err != nil || st.State != want {
		t.Errorf("%s is %q (%v), want %q", id, st.State, err, want)
	}
	return st
}

func is(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// steps checks what was done.
func steps(t *testing.T, what string, c approvals.Change, want ...approvals.StepName) {
	t.Helper()
	ok := len(c.Steps) == len(want)
	for i := range want {
		ok = ok && c.Steps[i].Name == want[i]
	}
	if !ok {
		t.Errorf("%s: took %+v, want %q", what, c.Steps, want)
	}
}

func yes(by string, at time.Time) approvals.Verdict {
	return approvals.Verdict{Approve: true, By: Person(by), Comment: "fine ✓", At: at}
}

func no(by string, at time.Time) approvals.Verdict {
	return approvals.Verdict{By: Person(by), Comment: "no", At: at}
}

func decide(ctx context.Context, s approvals.Store, id string, v approvals.Verdict) error {
	_, err := s.Decide(ctx, id, v)
	return err
}

func use(ctx context.Context, s approvals.Store, id string, binding [32]byte, at time.Time) error {
	_, err := s.Use(ctx, id, approvals.Use{Binding: binding, At: at})
	return err
}

func end(t *testing.T, s approvals.Store, id string, to approvals.State, at time.Time) {
	t.Helper()
	c, err := s.End(t.Context(), id, to, at)
	if err != nil || len(c.Steps) != 1 {
		t.Fatal(c, err)
	}
}
