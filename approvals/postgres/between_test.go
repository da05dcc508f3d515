package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

// The environment that makes the test binary a replica that dies between a step
// and its note in the store.
const (
	betweenEnv = "CALLGATE_TEST_BETWEEN" // the database
	trailEnv   = "CALLGATE_TEST_TRAIL"   // the trail's file
	pointEnv   = "CALLGATE_TEST_POINT"   // "before 2": ahead of the second record
)

// trailFile is an audit trail on disk: a line a step, durable when Record returns.
type trailFile struct {
	path string

	mu      sync.Mutex
	records int
	// reached is called ahead of and after each record, with how many there were
	// before it.
	reached func(where string, records int)
}

func (f *trailFile) Record(_ context.Context, e call.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached("before", f.records)
	out, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %d %s\n", e.Approval.ID, e.Approval.Number, e.Approval.Step)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	f.records++
	f.reached("after", f.records)
	return nil
}

// steps are the lines of the trail, in its order.
func (f *trailFile) steps() ([]string, error) {
	data, err := os.ReadFile(f.path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' }), nil
}

func (f *trailFile) recorded(_ context.Context, id string, number int) (bool, error) {
	steps, err := f.steps()
	return slices.ContainsFunc(steps, func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("%s %d ", id, number)) }), err
}

// serviceOn is a replica that takes steps for abandoned once they are older than lag;
// 0 is as long as it takes to be sure.
func serviceOn(s *Store, f *trailFile, lag time.Duration) *approvals.Service {
	return approvals.New(approvals.Config{Store: s, Recorder: f, Recorded: f.recorded, TrailLag: lag, Poll: 20 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler), Metrics: approvals.NewMetrics(prometheus.NewRegistry())})
}

// turn asks about a call, has it approved and makes it again.
func turn(t *testing.T, s *approvals.Service, path string) {
	ruling := call.Ruling{Rule: "r", PolicyVersion: "v", Hold: storetest.Terms(1)}
	ruling.Hold.Wait, ruling.Hold.Timeout, ruling.Hold.Valid = call.WaitRetry, time.Hour, time.Hour
	try := func() *call.Decision {
		id, err := call.NewID()
		if err != nil {
			t.Error(err)
		}
		return s.Hold(t.Context(), &call.Call{ID: id, Identity: call.Identity{Issuer: "https://idp", Subject: "joe"}, Connection: "crm", Function: "pay",
			Request: call.Request{Method: "POST", Path: path}}, &ruling)
	}
	first := try()
	if first.Approval == nil {
		t.Errorf("%+v", first)
		return
	}
	if _, err := s.Decide(t.Context(), first.Approval.ID, call.Identity{Issuer: "https://idp", Subject: "ann"}, approvals.Answer{Approve: true}); err != nil {
		t.Error(err)
	}
	if d := try(); d.Outcome != call.HoldAllow {
		t.Errorf("%+v", d)
	}
}

// startReplica starts a replica in a process of its own.
func startReplica(t *testing.T, address, trail, point string) (cmd *exec.Cmd, lines <-chan string) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBetweenProcess$")
	cmd.Env = append(os.Environ(), betweenEnv+"="+address, trailEnv+"="+trail, pointEnv+"="+point)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string)
	go func() {
		defer close(said)
		for read := bufio.NewScanner(out); read.Scan(); {
			said <- read.Text()
		}
	}()
	return cmd, said
}

// kill ends a process as kill -9 does.
func kill(t *testing.T, cmd *exec.Cmd, lines <-chan string) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range lines { // what it still said
	}
	_ = cmd.Wait()
}

// settle runs a replica until the store knows of every step that it is on record,
// and compares.
func settle(t *testing.T, store *Store, f *trailFile) {
	t.Helper()
	storetest.Settle(t, store, serviceOn(store, f, 10*time.Millisecond).Run, time.Minute)
	var want []string
	for fl := (approvals.Filter{Limit: 1000}); ; {
		page, err := store.List(t.Context(), fl)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range page {
			history, err := store.History(t.Context(), h.ID)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range history {
				want = append(want, fmt.Sprintf("%s %d %s", h.ID, s.N, s.Name))
			}
		}
		if len(page) < fl.Limit {
			break
		}
		fl.Before, fl.BeforeID = page[len(page)-1].AskedAt, page[len(page)-1].ID
	}
	got, err := f.steps()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the trail has %q, and there were %q", got, want)
	}
	t.Logf("%d steps", len(got))
}

// A replica dies by kill -9 exactly between a step and its record, or between its
// record and the note of that in the store: the trail has each step once.
func TestKillBetweenStepAndNote(t *testing.T) {
	address := durable(t).URL("postgres")
	store := open(t, configOf(t, address))
	f := &trailFile{path: filepath.Join(t.TempDir(), "trail"), reached: func(string, int) {}}
	recorded := func() int {
		on, err := f.steps()
		if err != nil {
			t.Fatal(err)
		}
		return len(on)
	}
	for records := 1; records <= 3; records++ { // asked, approved, used
		for _, point := range []string{fmt.Sprint("before ", records-1), fmt.Sprint("after ", records)} {
			t.Run(point, func(t *testing.T) {
				was := recorded()
				cmd, lines := startReplica(t, address, f.path, point)
				reached := false
				for line := range lines {
					if reached = line == "reached"; reached {
						break
					}
				}
				if !reached {
					t.Fatal("it never came so far")
				}
				kill(t, cmd, lines)
				n, err := store.Undelivered(t.Context(), approvals.TrailTarget)
				if on := recorded() - was; err != nil || n != records || on != records-map[bool]int{true: 1}[strings.HasPrefix(point, "before")] {
					t.Fatalf("%d steps that the store knows no record of, and %d on record: it was killed elsewhere (%v)", n, on, err)
				}
				settle(t, store, f)
			})
		}
	}
}

// A replica that holds calls, records steps and notes that they are on record dies
// at any moment, again and again.
func TestKillWhileNoting(t *testing.T) {
	db := durable(t)
	address := db.URL("postgres")
	f := &trailFile{path: filepath.Join(t.TempDir(), "trail"), reached: func(string, int) {}}
	for range kills(2) {
		cmd, lines := startReplica(t, address, f.path, "")
		for n := 0; n < 60; n++ {
			if _, more := <-lines; !more {
				t.Fatal("it ended by itself")
			}
		}
		kill(t, cmd, lines)
	}
	settle(t, open(t, configOf(t, address)), f)
}

// TestBetweenProcess is not a test: it is the replica that those above kill.
func TestBetweenProcess(t *testing.T) {
	address := os.Getenv(betweenEnv)
	if address == "" {
		t.Skip("run by TestKillBetweenStepAndNote and TestKillWhileNoting")
	}
	store := open(t, configOf(t, address))
	where, at, exact := strings.Cut(os.Getenv(pointEnv), " ")
	f := &trailFile{path: os.Getenv(trailEnv), reached: func(string, int) {}}
	if exact {
		n, err := strconv.Atoi(at)
		if err != nil {
			t.Fatal(err)
		}
		f.reached = func(here string, records int) {
			if here == where && records == n {
				fmt.Fprintln(os.Stdout, "reached")
				select {} // until it is killed
			}
		}
		turn(t, serviceOn(store, f, 0), fmt.Sprint("/pay/", os.Getpid())) // which never runs, and so never notes
		return
	}
	f.reached = func(here string, records int) { fmt.Fprintln(os.Stdout, here, records) }
	s := serviceOn(store, f, 0)
	go func() { _ = s.Run(t.Context()) }()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				turn(t, s, fmt.Sprint("/pay/", os.Getpid(), "/", worker, "/", i))
			}
		})
	}
	wg.Wait()
}
