package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/callgate/callgate/console"
)

// An approver who may give grants approves once for a while: the same call of
// the same caller is not held again until the grant is taken back.
func TestApprovalWithGrant(t *testing.T) {
	api := console.NewClient("http://"+shared.Addrs.Console, shared.bob)
	const body = `{"customer":"c-2","amount":450,"currency":"EUR","reason":"broken"}`
	first := make(chan answer, 1)
	go func() {
		a, err := shared.try(t.Context(), http1(), shared.alice, "POST", "/crm/refunds", body)
		if err != nil {
			t.Error(err)
		}
		first <- a
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var id string
	for id == "" {
		list, err := api.Approvals(ctx, console.Query{State: "open"})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if a.Function == "refunds.create" && a.Requester.Subject == "alice" {
				id = a.ID
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	// Who may approve and not give grants gets a clear refusal, and the call
	// stays held.
	if _, err := console.NewClient("http://"+shared.Addrs.Console, shared.alice).Decide(ctx, id, true, console.Decision{Grant: "1h"}); err == nil {
		t.Error("alice gave herself a grant")
	}
	if _, err := api.Decide(ctx, id, false, console.Decision{Grant: "1h"}); err == nil {
		t.Error("a refusal gave a grant")
	}
	out, err := api.Decide(ctx, id, true, console.Decision{Comment: "fine for today", Grant: "1h"})
	if err != nil || out.Grant == "" {
		t.Fatalf("%+v, %v", out, err)
	}
	if a := <-first; a.status != 201 && a.status != 200 {
		t.Errorf("the approved call: %d %s", a.status, a.body)
	}
	again := shared.call(t, http1(), shared.alice, "POST", "/crm/refunds", body)
	if again.status != 201 && again.status != 200 {
		t.Errorf("the same call again: %d %s", again.status, again.body)
	}
	if _, err := api.TakeGrantBack(ctx, out.Grant, "over"); err != nil {
		t.Fatal(err)
	}
	held, stop := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer stop()
	if a, err := shared.try(held, http1(), shared.alice, "POST", "/crm/refunds", body); err == nil {
		t.Errorf("after the grant the call was not held: %d %s", a.status, a.body)
	}
}
