package local

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callgate/callgate/envoy"
)

func fake(t *testing.T, says string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// An Envoy with known holes must not be run, whoever supplied it.
func TestOldEnvoyIsRefused(t *testing.T) {
	t.Setenv("CALLGATE_ENVOY", fake(t, "envoy  version: abc/1.30.2/Clean/RELEASE/BoringSSL"))
	_, err := Find(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "envoy 1.30.2 is too old") || !strings.Contains(err.Error(), "use 1.38.5 or newer") {
		t.Errorf("got %v", err)
	}
}

func TestOtherProgramIsRefused(t *testing.T) {
	t.Setenv("CALLGATE_ENVOY", fake(t, "GNU coreutils"))
	if _, err := Find(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "does not say its version as Envoy does") {
		t.Errorf("got %v", err)
	}
}

// An old one on the PATH is passed over, and said so.
func TestPathIsLookedAtFirst(t *testing.T) {
	good := fake(t, "envoy  version: abc/1.40.0/Clean/RELEASE/BoringSSL")
	t.Setenv("CALLGATE_ENVOY", "")
	t.Setenv("PATH", filepath.Dir(good)+":"+os.Getenv("PATH"))
	if got, err := Find(t.Context(), nil); err != nil || got != good {
		t.Errorf("got %s, %v", got, err)
	}
}

// A real Envoy starts, tells when its admin interface answers, and stops.
func TestStartAndStop(t *testing.T) {
	binary, err := Find(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	l.Close()
	bootstrap, err := envoy.Bootstrap(envoy.BootstrapConfig{Node: "test", XDS: "127.0.0.1:1", Admin: admin})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(Config{Binary: binary, Bootstrap: bootstrap, Admin: admin, Dir: t.TempDir(), Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	pid := p.Pid()
	// Without a control plane it is never ready, and a caller's patience ends.
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.Ready(short); err == nil {
		t.Error("ready without a configuration")
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("Envoy outlived Stop")
	}
}
