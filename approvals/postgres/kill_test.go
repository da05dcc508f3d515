package postgres

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/postgres/local"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

// replicaEnv makes the test binary a replica that a test kills.
const replicaEnv = "CALLGATE_TEST_REPLICA"

// kills is how often something is killed: often where there is time.
func kills(few int) int {
	if os.Getenv("CALLGATE_SOAK") != "" {
		return 20 * few
	}
	return few
}

// work asks, lets two people decide against each other and two calls take the
// approval up against each other, each on one of two replicas, again and again.
// It says what it was told has been done, and counts what it could not do.
func work(ctx context.Context, t testing.TB, name string, replicas [2]*Store, say func(words ...string)) {
	for i := 0; ctx.Err() == nil; i++ {
		h := storetest.NewHold(t, fmt.Sprintf("apr_%s_%d", name, i), time.Now())
		step, cancel := context.WithTimeout(ctx, 3*time.Second)
		if _, err := replicas[i%2].Ask(step, h); err == nil {
			say("asked", h.ID)
		}
		both(func(n int) {
			v := approvals.Verdict{Approve: i%4 > 0 || n == 0, By: approvals.Person{Issuer: "https://idp", Subject: []string{"ann", "bob"}[n]}, At: time.Now()}
			if _, err := replicas[n].Decide(step, h.ID, v); err == nil {
				say("decided", h.ID, v.By.Subject)
			}
		})
		both(func(n int) {
			id, err := call.NewID()
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := replicas[n].Use(step, h.ID, approvals.Use{Call: id, Binding: h.Binding, At: time.Now()}); err == nil {
				say("used", h.ID, id.String())
			}
		})
		cancel()
	}
}

func both(do func(n int)) {
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() { do(n) })
	}
	wg.Wait()
}

// said is what replicas were told has been done.
type said struct {
	mu    sync.Mutex
	lines [][]string
}

func (s *said) say(words ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, words)
}

// verify compares what was said to have been done with what is there.
func (s *said) verify(t *testing.T, store *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	count := map[string]int{}
	for _, words := range s.lines {
		what, id := words[0], words[1]
		count[what]++
		h, err := store.Get(t.Context(), id)
		if err != nil {
			t.Errorf("%s %s is lost: %v", what, id, err)
			continue
		}
		switch what {
		case "decided":
			if last, ok := h.Last(); !ok || last.By.Subject != words[2] {
				t.Errorf("%s: the decision of %s is lost: %+v", id, words[2], h.Status)
			}
		case "used":
			if h.State != approvals.Used || h.UsedFor.String() != words[2] {
				t.Errorf("%s: call %s passed, and it is %s by %s", id, words[2], h.State, h.UsedFor)
			}
		}
	}
	for _, what := range []string{"decided", "used"} {
		if count[what] == 0 {
			t.Errorf("nothing was %s, so nothing was tried", what)
		}
	}
	// Whatever was not answered was done once, or not at all.
	var holds int
	for f := (approvals.Filter{Limit: 1000}); ; {
		page, err := store.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range page {
			holds++
			steps, err := store.History(t.Context(), h.ID)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[approvals.StepName]int{}
			for i, step := range steps {
				if seen[step.Name]++; step.N != i+1 {
					t.Errorf("%s: step %d is number %d", h.ID, i+1, step.N)
				}
			}
			if len(steps) != h.Steps || seen[approvals.StepApproved]+seen[approvals.StepRefused] != len(h.Verdicts) || len(h.Verdicts) > 1 || seen[approvals.StepUsed] > 1 ||
				(h.State == approvals.Used) != (seen[approvals.StepUsed] == 1) {
				t.Errorf("%s: %+v after %v", h.ID, h.Status, seen)
			}
		}
		if len(page) < 1000 {
			break
		}
		f.Before, f.BeforeID = page[len(page)-1].AskedAt, page[len(page)-1].ID
	}
	t.Logf("%d holds; said: %v", holds, count)
}

// durable is a server that may be killed.
func durable(t *testing.T) *local.Server {
	t.Helper()
	s, err := local.Temporary(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// progress waits until enough more has been said.
func (s *said) progress(t *testing.T, more int) {
	t.Helper()
	now := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.lines) }
	want := now() + more
	for bound := time.Now().Add(time.Minute); now() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(bound) {
			t.Fatal("nothing goes on")
		}
	}
}

// The database dies in the middle, again and again.
func TestKillDatabase(t *testing.T) {
	db := durable(t)
	cfg := configOf(t, db.URL("postgres"))
	replicas := [2]*Store{open(t, cfg), open(t, cfg)}
	if err := replicas[0].Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var done said
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { work(ctx, t, fmt.Sprint(i), replicas, done.say) })
	}
	for range kills(3) {
		done.progress(t, 40)
		if err := db.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	done.progress(t, 20) // it goes on by itself
	stop()
	wg.Wait()
	done.verify(t, replicas[0])
}

// A replica dies in the middle, again and again.
func TestKillReplica(t *testing.T) {
	db := durable(t)
	store := open(t, configOf(t, db.URL("postgres")))
	if err := store.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var done said
	for n := range kills(2) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReplicaProcess$")
		cmd.Env = append(os.Environ(), replicaEnv+"="+db.URL("postgres"), replicaEnv+"_NAME="+fmt.Sprint(n))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if words := strings.Fields(lines.Text()); len(words) > 1 && slices.Contains([]string{"asked", "decided", "used"}, words[0]) {
					done.say(words...)
				}
			}
		}()
		done.progress(t, 60)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-read // a line that is cut off has no end and is not read as one
		_ = cmd.Wait()
	}
	done.verify(t, store)
}

// TestReplicaProcess is not a test: it is the process that TestKillReplica kills.
func TestReplicaProcess(t *testing.T) {
	address := os.Getenv(replicaEnv)
	if address == "" {
		t.Skip("run by TestKillReplica")
	}
	cfg := configOf(t, address)
	replicas := [2]*Store{open(t, cfg), open(t, cfg)}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			work(t.Context(), t, os.Getenv(replicaEnv+"_NAME")+"_"+fmt.Sprint(i), replicas, func(words ...string) {
				fmt.Fprintf(os.Stdout, "%s .\n", strings.Join(words, " ")) // one write
			})
		})
	}
	wg.Wait()
}

// While the database is away each step fails soon and says so; when it is back,
// the next ones succeed, also in a replica that was started without it.
func TestAway(t *testing.T) {
	db := durable(t)
	cfg := configOf(t, db.URL("postgres"))
	was := open(t, cfg)
	h := storetest.NewHold(t, "apr_a", time.Now())
	if _, err := was.Ask(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if err := db.Kill(); err != nil {
		t.Fatal(err)
	}
	started := open(t, cfg)
	for range 3 {
		for name, s := range map[string]*Store{"there before": was, "started without": started} {
			if _, err := s.Get(t.Context(), h.ID); err == nil || !strings.Contains(err.Error(), "connect") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	var heard atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan error, 1)
	go func() { watching <- started.Watch(ctx, func(...string) { heard.Add(1) }) }()
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Store{"there before": was, "started without": started} {
		for bound := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if got, err := s.Get(t.Context(), h.ID); err == nil && got.State == approvals.Open {
				break
			} else if time.Now().After(bound) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	for bound := time.Now().Add(30 * time.Second); heard.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(bound) {
			t.Fatal("it does not listen again")
		}
	}
	cancel()
	if err := <-watching; err != nil {
		t.Error(err)
	}
}

// A database that hangs keeps nobody longer than the step may take.
func TestHangs(t *testing.T) {
	db := durable(t)
	s := open(t, configOf(t, db.URL("postgres")))
	h := storetest.NewHold(t, "apr_a", time.Now())
	if _, err := s.Ask(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if err := db.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Decide(ctx, h.ID, yes()); err == nil {
		t.Error("decided in a database that hangs")
	}
	if err := db.Thaw(); err != nil {
		t.Fatal(err)
	}
	// In doubt it may have been done; done again it is refused, not doubled.
	if _, err := s.Decide(t.Context(), h.ID, yes()); err != nil && !strings.Contains(err.Error(), approvals.ErrDecided.Error()) {
		t.Error(err)
	}
	if got, err := s.Get(t.Context(), h.ID); err != nil || got.State != approvals.Approved || len(got.Verdicts) != 1 {
		t.Errorf("%+v %v", got.Status, err)
	}
}
