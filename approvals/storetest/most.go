package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/callgate/callgate/approvals"
)

// A caller has so many open holds and no more; what it has stays in its reach.
func testAskTooOften(t *testing.T, open func(*testing.T) approvals.Store) {
	s := open(t)
	ask := func(id string, change func(*approvals.Hold)) error {
		h := NewHold(t, id, start)
		h.Owner, h.Most = "", 2
		if change != nil {
			change(&h)
		}
		_, err := s.Ask(t.Context(), h)
		return err
	}
	first := NewHold(t, "apr_a", start)
	for _, id := range []string{"apr_a", "apr_b"} {
		if err := ask(id, nil); err != nil {
			t.Fatal(err)
		}
	}
	is(t, "a third", ask("apr_c", nil), approvals.ErrTooMany)
	_, err := s.Get(t.Context(), "apr_c")
	is(t, "a third is kept", err, approvals.ErrNotFound)
	for what, err := range map[string]error{
		"the same again":      ask("apr_d", func(h *approvals.Hold) { h.Binding = first.Binding }),
		"another caller":      ask("apr_e", func(h *approvals.Hold) { h.Identity.Subject = "other" }),
		"another issuer's":    ask("apr_f", func(h *approvals.Hold) { h.Identity.Issuer = "https://other" }),
		"without a bound":     ask("apr_g", func(h *approvals.Hold) { h.Most = 0 }),
		"with a larger bound": ask("apr_h", func(h *approvals.Hold) { h.Most = 4 }),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, id := range []string{"apr_a", "apr_b", "apr_g"} {
		if _, err := s.End(t.Context(), id, approvals.Canceled, start); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask("apr_i", nil); err != nil {
		t.Errorf("after others ended: %v", err)
	}
}

// Different calls of one caller at once, at two processes: no more are kept than
// it may have.
func testRaceAskOften(t *testing.T, open func(*testing.T) approvals.Store) {
	stores := []approvals.Store{open(t), open(t)}
	for r := range rounds {
		var kept atomic.Int32
		race(racers, func(i int) {
			h := NewHold(t, fmt.Sprintf("apr_%d_%d", r, i), start)
			h.Identity.Subject, h.Most = fmt.Sprint("caller", r), 1
			switch _, err := stores[i%2].Ask(t.Context(), h); {
			case err == nil:
				kept.Add(1)
			case !errors.Is(err, approvals.ErrTooMany):
				t.Errorf("ask: %v", err)
			}
		})
		if kept.Load() != 1 {
			t.Fatalf("%d holds of a caller that may have one", kept.Load())
		}
	}
}
