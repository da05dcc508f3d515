package app

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/config"
)

func TestParseRoles(t *testing.T) {
	if got, err := ParseRoles(nil); err != nil || len(got) != len(Roles) {
		t.Errorf("none: %v %v", got, err)
	}
	if got, err := ParseRoles([]string{"xds", "console"}); err != nil || len(got) != 2 {
		t.Errorf("two: %v %v", got, err)
	}
	if _, err := ParseRoles([]string{"extauth"}); err == nil || !strings.Contains(err.Error(), "there are extauthz, extproc") {
		t.Errorf("a slip: %v", err)
	}
}

func TestListenErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := listen("listen.grpc", l.Addr().String()); err == nil || !strings.Contains(err.Error(), "is taken by another process; stop it or set another address under listen.grpc") {
		t.Errorf("got %v", err)
	}
}

// A change is noticed however the file is replaced; what is no policy is not.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() {
		done <- watch(ctx, slog.New(slog.NewTextHandler(io.Discard, nil)), []string{dir}, func(context.Context) { changed <- struct{}{} })
	}()
	time.Sleep(50 * time.Millisecond) // until the watch is set up
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("rules: []\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want bool) {
		t.Helper()
		patience := 10 * time.Second
		if !want {
			patience = 4 * settle
		}
		select {
		case <-changed:
			if !want {
				t.Errorf("%s counted as a change", what)
			}
		case <-time.After(patience):
			if want {
				t.Errorf("%s went unnoticed", what)
			}
		}
	}
	write("a.yaml")
	expect("a new file", true)
	write("b.tmp")
	expect("a file of another kind", false)
	if err := os.Rename(filepath.Join(dir, "b.tmp"), filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	expect("a file put in place of another", true)
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	expect("a removed file", true)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The key of hashes is made once and kept, is the configured one where there is
// one, and a damaged one is not replaced in silence.
func TestHashKey(t *testing.T) {
	cfg := &config.Config{StateDir: t.TempDir()}
	first, err := hashKey(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := hashKey(cfg)
	if err != nil || string(first) != string(again) || len(first) != 32 {
		t.Errorf("%d bytes, then %d: %v", len(first), len(again), err)
	}
	if err := os.WriteFile(filepath.Join(cfg.StateDir, "hash.key"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hashKey(cfg); err == nil || !strings.Contains(err.Error(), "is damaged (5 bytes, want 32)") {
		t.Errorf("got %v", err)
	}
	for key, want := range map[string]string{"": "audit.hash_key: environment variable", "short": "has 5 characters, and needs 32", strings.Repeat("k", 40): ""} {
		t.Setenv("CALLGATE_TEST_HASH_KEY", key)
		cfg.Audit.HashKey.Env = "CALLGATE_TEST_HASH_KEY"
		got, err := hashKey(cfg)
		if want == "" && (err != nil || string(got) != key) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("key %q: %q, %v", key, got, err)
		}
	}
	old := &config.Config{StateDir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(old.StateDir, "mask.key"), first, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := hashKey(old); err != nil || string(got) != string(first) {
		t.Errorf("the key of before: %v", err)
	}
}
