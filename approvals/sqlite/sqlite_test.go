package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

func open(t testing.TB, file string) *Store {
	t.Helper()
	s, err := Open(context.Background(), file)
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

func use(t testing.TB, s *Store, h approvals.Hold) error {
	_, err := s.Use(t.Context(), h.ID, approvals.Use{Call: h.CallID, Binding: h.Binding, At: time.Now()})
	return err
}

func TestConformance(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func(*testing.T) approvals.Store {
			file := filepath.Join(t.TempDir(), "a dir?with #odd%20name", "approvals.db")
			return func(t *testing.T) approvals.Store { return open(t, file) }
		})
	})
}

// Several processes may open a new file at the same moment.
func TestOpenTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "approvals.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), file)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestFileIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	file := filepath.Join(dir, "approvals.db")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, file)
	if _, err := s.Ask(t.Context(), storetest.NewHold(t, "h", time.Now())); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 2 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", e.Name(), info.Mode(), err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	newer, garbage := filepath.Join(dir, "newer.db"), filepath.Join(dir, "garbage.db")
	s, err := Open(t.Context(), newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		newer:                              "a newer callgate has used the file",
		garbage:                            "not a database",
		filepath.Join(garbage, "under.db"): "must be in a directory this user can write to",
	} {
		if s, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q (%v)", file, err, want, s)
		}
	}
}

// TestCrashProcess is not a test: it is the process that TestCrash kills. It
// decides and uses, tells each step that was done, and goes on until the end.
func TestCrashProcess(t *testing.T) {
	file := os.Getenv("CALLGATE_TEST_APPROVALS")
	if file == "" {
		return
	}
	s, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		h := storetest.NewHold(t, fmt.Sprintf("h%06d", i), time.Now())
		if _, err := s.Ask(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("created %s\n", h.ID)
		if _, err := s.Decide(t.Context(), h.ID, approvals.Verdict{Approve: true, By: storetest.Person("ann"), At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("approved %s\n", h.ID)
		if i%2 == 0 {
			if err := use(t, s, h); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("used %s\n", h.ID)
		}
	}
}

// A process killed at any point loses nothing it was told is done, and an
// approval that was not taken up can be, once.
func TestCrash(t *testing.T) {
	for round := range 3 {
		file := filepath.Join(t.TempDir(), "approvals.db")
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrashProcess$")
		cmd.Env = append(os.Environ(), "CALLGATE_TEST_APPROVALS="+file)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var told strings.Builder
		buf := make([]byte, 64)
		for strings.Count(told.String(), "\n") < 40+7*round {
			n, err := out.Read(buf)
			told.Write(buf[:n])
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, as it should be
		last := map[string]string{}
		lines := strings.Split(told.String(), "\n")
		for _, line := range lines[:len(lines)-1] {
			if done, id, ok := strings.Cut(line, " "); ok {
				last[id] = done
			}
		}
		rank := map[approvals.State]int{approvals.Open: 0, approvals.Approved: 1, approvals.Used: 2}
		min := map[string]int{"created": 0, "approved": 1, "used": 2}
		s := open(t, file)
		for id, done := range last {
			h, err := s.Get(t.Context(), id)
			if err != nil || rank[h.State] < min[done] {
				t.Fatalf("%s was %s, and is %q: %v", id, done, h.State, err)
			}
			var used, twice error
			if h.State == approvals.Approved {
				used = use(t, s, h)
			}
			if h.State != approvals.Open {
				twice = use(t, s, h)
			}
			if used != nil || h.State != approvals.Open && !errors.Is(twice, approvals.ErrUsed) {
				t.Errorf("%s: used %v, twice %v", id, used, twice)
			}
		}
		if len(last) < 10 {
			t.Errorf("only %d holds in %q", len(last), told.String())
		}
	}
}

func BenchmarkCreateDecideUse(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "approvals.db"))
	now := time.Now()
	i := 0
	for b.Loop() {
		i++
		h := storetest.NewHold(b, fmt.Sprint(i), now)
		_, asked := s.Ask(b.Context(), h)
		_, decided := s.Decide(b.Context(), h.ID, approvals.Verdict{Approve: true, By: storetest.Person("ann"), At: now})
		if err := errors.Join(asked, decided, use(b, s, h)); err != nil {
			b.Fatal(err)
		}
	}
}

// An erased request is in none of the store's files.
func TestErasedFromDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(t.Context(), filepath.Join(dir, "approvals.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var calls []call.ID
	at := time.Now()
	for i := range 20 {
		h := storetest.NewHold(t, fmt.Sprintf("h%d", i), at)
		h.Request.Body = bytes.Repeat([]byte("the secret "), 1000)
		if _, err := s.Ask(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if _, err := s.End(t.Context(), h.ID, approvals.Canceled, at); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, h.CallID)
	}
	found := func() (n int) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(data, []byte("the secret"))
		}
		return n
	}
	if found() == 0 {
		t.Fatal("this test can't see requests on disk")
	}
	if n, err := s.Erase(t.Context(), calls, at); err != nil || n != len(calls) {
		t.Fatalf("%d: %v", n, err)
	}
	if n := found(); n > 0 {
		t.Errorf("%d times still there", n)
	}
}
