//go:build linux

// Package soak breaks a running Callgate on purpose and counts. A real Envoy,
// `callgate serve` processes, and the embedded engine's process are killed,
// starved and misled under load, and then what a client saw is held against
// what SELECT finds: one row for each call that was answered, with the same
// decision, none twice.
//
// `make test` runs a short form of each fault, `make soak` the long one; there
// CALLGATE_SOAK is set, and CALLGATE_SOAK_TIME says for how long.
package soak

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/callgate/callgate/test/program"
)

// settings say how long the faults go on.
type settings struct {
	long  bool
	total time.Duration
	// scenario is the only one to run, which gets all the time; empty: all.
	scenario string
}

// time is how long a scenario goes on that has this share of the whole, or in
// the short form this long.
func (s settings) time(share float64, short time.Duration) time.Duration {
	switch {
	case !s.long:
		return short
	case s.scenario != "":
		return s.total
	default:
		return time.Duration(float64(s.total) * share)
	}
}

var (
	set      settings
	callgate string  // the program
	store    *engine // that all scenarios share, each with a database of its own
	lines    table   // what came out
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == confined {
		fmt.Fprintln(os.Stderr, confine(os.Args[2:]))
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // libraries that take no logger
	var err error
	if set, err = readSettings(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "callgate-soak-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	callgate = filepath.Join(dir, "callgate")
	if err := program.Build(callgate); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if store, err = newEngine(filepath.Join(dir, "clickhouse")); err == nil {
		err = store.start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the engine:", err)
		return 1
	}
	defer func() { _ = store.stop() }() // it may have been away at the end
	code := m.Run()
	lines.print(os.Stdout)
	return code
}

func readSettings() (settings, error) {
	s := settings{long: os.Getenv("CALLGATE_SOAK") != "", total: 20 * time.Minute, scenario: os.Getenv("CALLGATE_SOAK_SCENARIO")}
	if names, ok := known(s.scenario); !ok {
		return s, fmt.Errorf("there is no scenario %q; choose of %s", s.scenario, names)
	}
	if text := os.Getenv("CALLGATE_SOAK_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return s, fmt.Errorf("CALLGATE_SOAK_TIME: %q is no duration; write it as 20m", text)
		}
		s.total = d
	}
	return s, nil
}
