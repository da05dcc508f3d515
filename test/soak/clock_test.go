//go:build linux

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/test/program"
)

// steps are where the clock stands, from the true time: it goes back by a
// little and by more than a day, and comes forward again. By a service whose
// whole clock is far off, tokens are not valid yet, or no longer.
var steps = []time.Duration{-30 * time.Second, 0, -2 * time.Hour, time.Hour, -25 * time.Hour, 0}

// clock: the wall clock steps under load. In the short form only the stamps of
// events step, in this process; in the long one it is the clock of the whole
// program, which is also killed meanwhile.
func clock(t *testing.T) {
	var p plan
	var step func(time.Duration) error
	if set.long {
		p, step = steppable(t)
	} else {
		p, step = stepping(t)
	}
	w := newWorld(t, p)
	tr := begin(t, w)
	ctx := t.Context()
	l := w.load(ctx, 4, 4*time.Millisecond, 200)
	for until := time.Now().Add(set.time(0.06, 0)); ; {
		for _, to := range steps {
			must(t, step(to))
			tr.faults++
			sleep(ctx, 300*time.Millisecond+rand.N(200*time.Millisecond))
			if set.long && rand.N(3) == 0 {
				must(t, w.services[0].kill())
				must(t, w.services[0].again(ctx))
				tr.faults++
			}
		}
		if time.Now().After(until) {
			break
		}
	}
	l.last(t, 0, 60)
	l.stop()
	tr.end(60)
	back, err := store.ask(ctx, w.database, `SELECT count() FROM (SELECT time, max(time) OVER (PARTITION BY spool ORDER BY spool_index ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newest
		FROM events) WHERE time < newest - INTERVAL 1 HOUR AND newest > toDateTime('2000-01-01 00:00:00', 'UTC')`)
	must(t, err)
	if n, err := strconv.Atoi(back[0][0]); err != nil || n < 20 {
		t.Errorf("only %d events are older than the one before: no test (%v)", n, err)
	}
}

// stepping runs the service in this process, by a clock of the test's.
func stepping(t *testing.T) (plan, func(time.Duration) error) {
	t.Setenv("CALLGATE_SOAK_PASSWORD", password)
	var offset atomic.Int64
	serve := func(ctx context.Context, file, database string) error {
		cfg, err := config.Load(file, nil)
		if err != nil {
			return err
		}
		ch := &cfg.Audit.ClickHouse
		ch.URL, ch.Database, ch.SettleAfter, ch.Password = "http://"+store.addr, database, settle, config.Secret{Env: "CALLGATE_SOAK_PASSWORD"}
		a, err := app.New(ctx, cfg, app.Options{File: file, Roles: app.Roles, Version: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }})
		if err != nil {
			return err
		}
		return a.Run(ctx)
	}
	return plan{serve: serve}, func(to time.Duration) error { offset.Store(int64(to)); return nil }
}

// steppable builds callgate with another clock: a copy of the standard
// library's time.Now that adds what a file says to the wall clock, and nothing to
// the monotonic one, as when an operator sets the time.
func steppable(t *testing.T) (plan, func(time.Duration) error) {
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	library := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go")
	command, err := filepath.Abs("../../cmd/callgate/stepped_clock.go") // which there is not
	must(t, err)
	source, err := os.ReadFile(library)
	must(t, err)
	text := string(source)
	for old, replaced := range map[string]string{
		"import (": "import (\n\t\"sync/atomic\"",
		"func Now() Time {\n\tsec, nsec, mono := runtimeNow()": "// Stepped is added to the wall clock, in seconds.\nvar Stepped atomic.Int64\n\n" +
			"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += Stepped.Load()",
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("%s is not as it was: %q is not in it once", library, old)
		}
		text = strings.Replace(text, old, replaced, 1)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		library: filepath.Join(dir, "time.go"), command: filepath.Join(dir, "stepped_clock.go")}})
	must(t, err)
	file := filepath.Join(dir, "clock")
	for name, content := range map[string]string{
		"time.go": text, "stepped_clock.go": fmt.Sprintf(follow, file), "overlay.json": string(overlay), "clock": "0",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	to := filepath.Join(dir, "callgate")
	must(t, program.Build(to, "-overlay", filepath.Join(dir, "overlay.json")))
	return plan{program: to}, func(to time.Duration) error {
		next := file + ".next"
		if err := os.WriteFile(next, fmt.Appendf(nil, "%d", int64(to.Seconds())), 0o600); err != nil {
			return err
		}
		return os.Rename(next, file)
	}
}

// follow is what is added to the program: it sets the clock as the file says.
const follow = `package main

import (
	"os"
	"strconv"
	"time"
)

func init() {
	set := func() {
		text, err := os.ReadFile(%q)
		if err != nil {
			return
		}
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			time.Stepped.Store(n)
		}
	}
	set()
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			set()
		}
	}()
}
`
