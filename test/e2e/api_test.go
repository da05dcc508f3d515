package e2e

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/callgate/callgate/console/apiclient"
)

// apiAs is the generated client in somebody's name.
func apiAs(t *testing.T, token string) *apiclient.ClientWithResponses {
	t.Helper()
	c, err := apiclient.NewClientWithResponses("http://"+shared.Addrs.Console, apiclient.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("authorization", "Bearer "+token)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The client that is generated from the description decides about calls that a
// real Envoy holds, and reads what else the API tells.
func TestGeneratedClient(t *testing.T) {
	ctx := t.Context()
	bob, alice, nobody := apiAs(t, shared.bob), apiAs(t, shared.alice), apiAs(t, "forged")
	for verb, want := range map[string]int{"approve": 201, "deny": 403} {
		done := make(chan answer, 1)
		go func() {
			a, err := shared.try(ctx, http1(), shared.agent, "POST", "/crm/refunds", bigRefund)
			if err != nil {
				a.body = err.Error()
			}
			done <- a
		}()
		id := held(t, shared)
		open := "open"
		list, err := bob.ListApprovalsWithResponse(ctx, &apiclient.ListApprovalsParams{State: &open})
		if err != nil || list.JSON200 == nil || !slices.ContainsFunc(*list.JSON200, func(a apiclient.Approval) bool { return a.Id == id }) {
			t.Fatalf("%v: %s", err, list.Body)
		}
		one, err := bob.GetApprovalWithResponse(ctx, id)
		if err != nil || one.JSON200 == nil || one.JSON200.Function != "refunds.create" || one.JSON200.Requester.Subject != "alice" || one.JSON200.Expires.IsZero() {
			t.Fatalf("%v: %s", err, one.Body)
		}
		// Who may not decide is told why, in the form that the description has.
		self, err := alice.ApproveWithResponse(ctx, id, apiclient.Decision{})
		if err != nil || self.ApplicationproblemJSONDefault == nil || self.ApplicationproblemJSONDefault.Status != http.StatusForbidden || self.ApplicationproblemJSONDefault.Detail == "" {
			t.Fatalf("%v: %d %s", err, self.StatusCode(), self.Body)
		}
		if verb == "approve" {
			got, err := bob.ApproveWithResponse(ctx, id, apiclient.Decision{Comment: "by the book"})
			if err != nil || got.JSON200 == nil || got.JSON200.State == "open" {
				t.Fatalf("%v: %s", err, got.Body)
			}
		} else if got, err := bob.DenyWithResponse(ctx, id, apiclient.Decision{Comment: "not today"}); err != nil || got.JSON200 == nil || got.JSON200.State != "refused" {
			t.Fatalf("%v: %s", err, got.Body)
		}
		if a := <-done; a.status != want {
			t.Errorf("%s: %d %s", verb, a.status, a.body)
		}
	}
	status, err := bob.GetStatusWithResponse(ctx)
	if err != nil || status.JSON200 == nil || status.JSON200.Version != "test" || status.JSON200.Rollout == nil {
		t.Errorf("%v: %s", err, status.Body)
	}
	audit, err := bob.GetAuditWithResponse(ctx)
	if err != nil || audit.JSON200 == nil || audit.JSON200.Node != "demo" || audit.JSON200.Spool.MaxBytes == 0 {
		t.Errorf("%v: %s", err, audit.Body)
	}
	history, err := bob.ListRolloutsWithResponse(ctx, &apiclient.ListRolloutsParams{})
	if err != nil || history.JSON200 == nil || len(*history.JSON200) == 0 || (*history.JSON200)[0].Version == "" {
		t.Errorf("%v: %s", err, history.Body)
	}
	refused, err := nobody.GetStatusWithResponse(ctx)
	if err != nil || refused.StatusCode() != http.StatusUnauthorized || refused.ApplicationproblemJSONDefault == nil {
		t.Errorf("%v: %d %s", err, refused.StatusCode(), refused.Body)
	}
	spec, err := nobody.GetDescriptionWithResponse(ctx)
	if err != nil || spec.JSON200 == nil || (*spec.JSON200)["openapi"] != "3.1.0" {
		t.Errorf("%v: %d", err, spec.StatusCode())
	}
}
