package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// eraseThroughKills erases calls while the service is killed -9 at some point of
// it, asks again, and looks for what was to go: in ClickHouse, the spool and the
// approval store.
func eraseThroughKills(t *testing.T, w *world) {
	const secret = "walnut-cupboard-7"
	note := func(amount int) string {
		return fmt.Sprintf(`{"customer":"c-1","amount":%d,"currency":"EUR","reason":"%s"}`, amount, secret)
	}
	var ids []string
	for range 5 {
		a := w.call(t, http1(), w.agent, "POST", "/crm/refunds", note(5))
		if a.status != 201 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		ids = append(ids, a.id())
	}
	done := make(chan answer, 1)
	go func() {
		a, err := w.try(t.Context(), http1(), w.agent, "POST", "/crm/refunds", note(500))
		if err != nil {
			a.body = err.Error()
		}
		done <- a
	}()
	w.exits(t, 0, w.bob, "approvals", "approve", held(t, w))
	a := <-done
	if a.status != 201 {
		t.Fatalf("the held call: %d %s", a.status, a.body)
	}
	ids = append(ids, a.id())
	for _, id := range ids {
		w.row(t, id, "decision", map[bool]string{true: "hold→allow", false: "allow"}[id == a.id()])
	}
	files := func() (with []string) {
		t.Helper()
		err := filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil // gone since it was listed
			}
			if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, ".log") && !strings.Contains(path, "spool") {
				return err
			}
			data, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				return nil
			}
			if bytes.Contains(data, []byte(secret)) {
				with = append(with, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return with
	}
	var spool, approvals bool
	for _, f := range files() {
		spool, approvals = spool || strings.Contains(f, "spool"), approvals || strings.Contains(f, "approvals")
	}
	if !spool || !approvals {
		t.Fatalf("this test can't see the requests on disk: %v", files())
	}

	erase := append([]string{"audit", "erase", "--reason", "asked for", "--yes"}, ids...)
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = w.cli(t, w.bob, erase...) // it is killed, or done already
		}()
		time.Sleep(100*time.Millisecond + after)
		if err := w.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-ended
	}
	w.exits(t, 0, w.bob, erase...)
	for _, id := range ids {
		w.row(t, id, "args", "", "request_body", "", "response_body", "", "path", "", "function", "refunds.create")
	}
	if n := number(t, w, "SELECT count() AS n FROM events WHERE body_head != '' OR aside != ''"); n > 0 {
		// Legs of other calls may lie there; those of these may not.
		n = number(t, w, "SELECT count() AS n FROM events WHERE (body_head != '' OR aside != '') AND call_id IN ('"+strings.Join(ids, "','")+"')")
		if n > 0 {
			t.Errorf("%d legs have content still", n)
		}
	}
	left := files()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		left = left[:0]
		for _, f := range files() {
			// ClickHouse deletes parts that it replaced some minutes later.
			if strings.Contains(f, "spool") || strings.Contains(f, "approvals") {
				left = append(left, f)
			}
		}
		if len(left) == 0 {
			break
		}
	}
	if len(left) > 0 {
		t.Errorf("still on disk: %v", left)
	}
	if n := number(t, w, "SELECT count() AS n FROM events WHERE kind = 'changed' AND position(leaf, 'asked for') > 0"); n < 1 {
		t.Error("no event tells of the erasure")
	}
}
