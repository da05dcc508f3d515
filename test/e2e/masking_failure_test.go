package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callgate/callgate/demo"
)

// Where responses can't be masked for want of memory or time they are withheld
// with 502 and a reason, and the call's row says why. CALLGATE_SOAK also stops the
// masking service in the middle of a call, which takes Envoy some seconds to see.
func TestMaskingFails(t *testing.T) {
	t.Parallel()
	w, stop, err := start(t.Context(), demo.Config{Dir: filepath.Join(t.TempDir(), "stack"), AnyPorts: true,
		Env: []string{"CALLGATE_MASKING_MEMORY=16MiB", "CALLGATE_MASKING_TIMEOUT=2s"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	over := make(chan struct{})
	analyzer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	defer analyzer.Close()
	defer close(over)
	called, release := make(chan struct{}), make(chan struct{})
	function := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			out.Header().Set("content-type", "multipart/mixed; boundary=b") // which does not flow
			_, _ = io.WriteString(out, "--b\r\ncontent-type: text/plain\r\n\r\n"+plantedCard+strings.Repeat(" and so on", 1_200_000)+"\r\n--b--\r\n")
			return
		case "/late":
			close(called)
			<-release
		}
		out.Header().Set("content-type", "application/json")
		_, _ = io.WriteString(out, sensitive)
	}))
	defer function.Close()
	policy := `detectors:
  - {name: ner, analyzer: {url: "` + analyzer.URL + `", timeout: 60s}}
connections:
  - name: shapes
    protocol: http
    match: {path: /shapes}
    upstream: {url: "` + function.URL + `/", timeout: 60s}
    functions: [{name: large, method: GET, path: /large}, {name: asked, method: GET, path: /asked}, {name: late, method: GET, path: /late}, {name: plain, method: GET, path: /plain}]
    max_response: 32MiB
    mask: [{detect: [card, email], keys: [password]}]
rules:
  - {name: what an analyzer must see, connections: [shapes], functions: [asked], action: mask, mask: {detect: [ner]}}
  - {name: anybody, connections: [shapes], when: '"support" in identity.groups', action: allow}
`
	if err := os.WriteFile(filepath.Join(w.Policies, "shapes.yaml"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := func() (answer, error) { return w.try(t.Context(), http1(), w.alice, "GET", "/shapes/plain", "") }
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		a, err := plain()
		if err == nil && a.status == http.StatusOK && a.body == cleaned {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the function can't be reached: %v %+v", err, a)
		}
	}
	for path, why := range map[string]string{"large": "masking.memory", "asked": "masking.timeout"} {
		a := w.call(t, http1(), w.alice, "GET", "/shapes/"+path, "")
		if clean(t, a); a.status != http.StatusBadGateway || a.reason() != withheld {
			t.Errorf("%s: %d %s %.300s", path, a.status, a.reason(), a.body)
			continue
		}
		if said := w.row(t, a.id(), "http_status", 502)["withheld"]; !strings.Contains(said.(string), why) {
			t.Errorf("%s: the row says %q", path, said)
		}
	}
	if a, err := plain(); err != nil || a.body != cleaned {
		t.Errorf("the next call: %v %+v", err, a)
	}
	if os.Getenv("CALLGATE_SOAK") == "" {
		return
	}
	type outcome struct {
		answer
		err error
	}
	got := make(chan outcome, 1)
	go func() {
		a, err := w.try(t.Context(), http1(), w.alice, "GET", "/shapes/late", "")
		got <- outcome{a, err}
	}()
	<-called
	if err := w.Callgate.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	close(release)
	late := <-got
	if err := w.Callgate.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if clean(t, late.answer); late.err != nil || late.status != http.StatusBadGateway {
		t.Errorf("while the service does not move: %v %d %s", late.err, late.status, late.body)
	}
}
