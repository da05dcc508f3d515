package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
)

// A version that the control plane keeps is compared with files, the
// certificates that it names included.
func TestDiffStored(t *testing.T) {
	dir := t.TempDir()
	const policy = `connections:
  - {name: tools, protocol: mcp, upstream: {url: "https://tools.internal", ca_file: ca.pem}}
rules:
  - {name: a, action: allow, when: '"a" in identity.groups'}
`
	for name, text := range map[string]string{"p.yaml": policy, "ca.pem": "a certificate"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stored := strings.Replace(policy, `, when: '"a" in identity.groups'`, "", 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/policy/versions/abc" || r.Header.Get("authorization") != "Bearer token" {
			http.Error(w, `{"detail":"no such version"}`, http.StatusNotFound)
			return
		}
		w.Header().Set("content-type", "application/json")
		json.NewEncoder(w).Encode(console.Push{Files: []config.File{{Name: "p.yaml", Content: []byte(stored)}},
			References: []config.Reference{{File: "p.yaml", Path: "ca.pem", Content: []byte("a certificate")}}})
	}))
	defer server.Close()
	t.Setenv("CALLGATE_TOKEN", "token")
	diff := func(args ...string) (string, int) {
		t.Helper()
		var out bytes.Buffer
		root := newRoot()
		root.SetArgs(append([]string{"policy", "diff", "--server", server.URL}, args...))
		root.SetOut(&out)
		root.SetErr(&out)
		err := root.ExecuteContext(t.Context())
		if err != nil {
			out.WriteString(err.Error())
		}
		return out.String(), exitCode(err)
	}
	file := filepath.Join(dir, "p.yaml")
	out, code := diff("version:abc", file)
	if code != exitNo || !strings.Contains(out, "it got a condition") || strings.Contains(out, "connection") || strings.Contains(out, "Envoy") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := diff("version:abc", "version:abc"); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := diff("version:other", file); code == exitOK {
		t.Errorf("a version that does not exist: %s", out)
	}
}
