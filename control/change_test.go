package control

import (
	"context"
	"testing"
	"time"

	"github.com/callgate/callgate/xds/policyv1"
)

// Who asked for a change may hang up at any time: the change is carried through,
// or undone, whole.
func TestPusherHangsUp(t *testing.T) {
	for _, refused := range []bool{false, true} {
		r := newRig(t)
		first := r.files(t, allow)
		if err := r.Start(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		b, p := r.bundle(t, deny)
		if refused {
			r.fleet.nack = p.Version
		}
		ctx, hangUp := context.WithCancel(t.Context())
		r.fleet.waiting = hangUp
		_, err := r.Push(ctx, Push{Bundle: b, Author: "ann"})
		r.fleet.waiting = nil
		want := p.Version
		if refused {
			want = first.Policy.Version
		}
		if (err != nil) != refused || ctx.Err() == nil {
			t.Fatalf("refused %v: %v", refused, err)
		}
		r.fleet.nack = ""
		r.decides(t, want)
		files := r.files(t, allow)
		r.restart(t)
		if err := r.Start(t.Context(), files); err != nil {
			t.Fatal(err)
		}
		r.decides(t, want)
	}
}

// A control plane that dies before all have answered goes on with what decided
// before.
func TestKilledWhileNodesAnswer(t *testing.T) {
	r := newRig(t)
	first := r.files(t, allow)
	if err := r.Start(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	b, _ := r.bundle(t, deny)
	looked := false
	r.fleet.waiting = func() {
		looked = true
		if last, _, err := r.store.current(t.Context()); err != nil || last.Stable != first.Policy.Version {
			t.Errorf("a restart now would take up %s, %v", last.Stable, err)
		}
	}
	if _, err := r.Push(t.Context(), Push{Bundle: b, Author: "ann"}); err != nil || !looked {
		t.Fatal(err)
	}
}

// A revocation does not wait for a policy that some node has not answered to.
func TestRevocationDuringPush(t *testing.T) {
	r := newRig(t)
	if err := r.Start(t.Context(), r.files(t, allow)); err != nil {
		t.Fatal(err)
	}
	b, _ := r.bundle(t, deny)
	r.fleet.waiting = func() {
		r.fleet.waiting = nil
		done := make(chan error, 1)
		go func() {
			_, err := r.Revoke(context.Background(), &policyv1.Revocation{TokenId: "t-1"}, "ann", "stolen", time.Time{})
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil || len(r.local.revoked) != 1 || len(r.fleet.revoked) != 1 {
				t.Errorf("revoked %v, %v: %v", r.local.revoked, r.fleet.revoked, err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the revocation waits for the push")
		}
	}
	if _, err := r.Push(t.Context(), Push{Bundle: b, Author: "ann"}); err != nil {
		t.Fatal(err)
	}
}
