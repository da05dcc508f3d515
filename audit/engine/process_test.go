//go:build linux

package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

func TestStartFailuresAreClear(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*ProcessConfig)
		want   []string
	}{
		"no password":       {func(c *ProcessConfig) { c.Password = "" }, []string{"no password", "set one"}},
		"no path":           {func(c *ProcessConfig) { c.Path = "" }, []string{"no data directory"}},
		"path is a file":    {func(c *ProcessConfig) { c.Path = file }, []string{"data directory", "not a directory"}},
		"little memory":     {func(c *ProcessConfig) { c.MaxMemory = 1000 }, []string{"memory cap of 1000", "at least"}},
		"many connections":  {func(c *ProcessConfig) { c.Connections = 1000 }, []string{"1000 connections"}},
		"port taken":        {func(c *ProcessConfig) { c.Addr = busy.Addr().String() }, []string{"in use", "choose another address"}},
		"library missing":   {func(c *ProcessConfig) { c.Library = "/nowhere/libchdb.so" }, []string{"/nowhere/libchdb.so"}},
		"library is no lib": {func(c *ProcessConfig) { c.Library = file }, []string{"load " + file}},
		"another library":   {func(c *ProcessConfig) { c.Library = systemLibrary(t) }, []string{"no function chdb_", "CALLGATE_CHDB"}},
		"no such program":   {func(c *ProcessConfig) { c.Executable = "/nowhere/callgate" }, []string{"run /nowhere/callgate"}},
		"another program":   {func(c *ProcessConfig) { c.Executable, c.Library = "/bin/true", file }, []string{"ended before it was ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := tryRun(t, filepath.Join(t.TempDir(), "data"), c.change)
			if err == nil {
				s.Stop()
				t.Fatal("started")
			}
			for _, want := range append(c.want, "start the ClickHouse engine: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if strings.Count(err.Error(), "start the ClickHouse engine") != 1 || strings.Contains(err.Error(), password) {
				t.Errorf("bad error: %q", err)
			}
		})
	}
}

// systemLibrary is some shared library that is not the engine.
func systemLibrary(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/lib/*-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("this system has no libm.so.6 where one is looked for")
	return ""
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s := run(t, path)
	other, err := tryRun(t, path, nil)
	if err == nil {
		other.Stop()
		t.Fatal("a second engine has the same data directory")
	}
	for _, want := range []string{path, "in use by process " + strconv.Itoa(s.PID()), "choose another path"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	s.want(s.post("SELECT 1"), "1\n")
}

func TestRelativePath(t *testing.T) {
	path := t.TempDir()
	t.Chdir(filepath.Dir(path))
	s := run(t, filepath.Base(path))
	c := s.client()
	s.exec(c, "CREATE TABLE r (n UInt8) ENGINE = MergeTree ORDER BY n")
	s.want(s.post("1\n", "query=INSERT INTO r FORMAT TSV"), "")
	if _, err := os.Stat(filepath.Join(path, "store")); err != nil {
		t.Errorf("the data are not in %s: %v", path, err)
	}
}

// The password must be visible to nobody else on the machine, and what the
// parent knows must not reach the engine.
func TestChildKnowsOnlyItsOwn(t *testing.T) {
	t.Setenv("HOME_SECRET", "parents-only")
	s := run(t, t.TempDir())
	proc := fmt.Sprintf("/proc/%d/", s.PID())
	command, err := os.ReadFile(proc + "cmdline")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(command), password) || !strings.Contains(string(command), "--path") {
		t.Errorf("the command line is %q", command)
	}
	environ, err := os.ReadFile(proc + "environ")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(environ), "parents-only") {
		t.Errorf("the environment is %q", environ)
	}
	if group, err := syscall.Getpgid(s.PID()); err != nil || group != s.PID() {
		t.Errorf("process group %d, %v", group, err)
	}
	for _, file := range []string{"callgate-config/config.xml", "callgate-config/users.xml"} {
		info, err := os.Stat(filepath.Join(s.path, file))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}

func TestStopEndsRunningStatements(t *testing.T) {
	t.Parallel()
	s, err := tryRun(t, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := s.client()
	s.exec(c, "CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n")
	s.exec(c, "INSERT INTO kept VALUES (1)")
	ended := make(chan error, 1)
	go func() {
		ended <- c.QueryRow(t.Context(), "SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 1").Scan(new(uint64))
	}()
	eventually(t, "the statement runs", func() bool { return running(s) == "1\n" })
	if err := s.Stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, s.stderr)
	}
	if err := <-ended; err == nil {
		t.Error("the statement ended by itself")
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("somebody still listens")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
	again := run(t, s.path)
	if n := again.count(again.client(), "SELECT count() FROM kept"); n != 1 {
		t.Errorf("%d rows after the restart", n)
	}
}

func TestDeathIsTold(t *testing.T) {
	t.Parallel()
	s, err := tryRun(t, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("alive, but: %v", err)
	}
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %v", err)
	}
	s.Stop()
}

func TestStartIsBounded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "lib")
	_, err := Start(ctx, ProcessConfig{
		Config:     Config{Path: t.TempDir(), Addr: "127.0.0.1:0", Password: password, Library: file},
		Executable: "/bin/sleep", Args: []string{"1000", "--"}, Stderr: &buffer{},
	}, nil)
	if err == nil || !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "ended before") {
		t.Errorf("got %v", err)
	}
}

// The library's handlers would turn a Go panic into the end of the process.
func TestGoKeepsItsSignals(t *testing.T) {
	t.Parallel()
	library, err := Library(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=signals", "ENGINE_TEST_PATH="+t.TempDir(), "CALLGATE_CHDB="+library)
	if out, err := child.CombinedOutput(); err != nil || string(out) != "recovered: true\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// Whatever ends the parent ends the engine.
func TestEngineEndsWithItsParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	library, err := Library(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	parent.Env = append(os.Environ(), childEnv+"=parent", "ENGINE_TEST_PATH="+t.TempDir(), "CALLGATE_CHDB="+library)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent says %q", line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the engine does not run: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	eventually(t, "the engine is gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
}

// zombie tells a process that has ended, and that nobody has asked about.
func zombie(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return strings.HasPrefix(rest, "Z")
}

// kill -9 while writers write: every acknowledged batch is there once the
// engine is back, and sending the others again under their tokens makes each
// batch whole, once.
func TestKillKeepsWhatWasAcknowledged(t *testing.T) {
	rounds := 3
	if os.Getenv("CALLGATE_SOAK") != "" {
		rounds = 50
	}
	path := t.TempDir()
	const size, writers = 500, 3
	type batch struct{ writer, n int }
	send := func(ctx context.Context, c driver.Conn, b batch) error {
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token": fmt.Sprintf("w%d-%d", b.writer, b.n)}))
		ins, err := c.PrepareBatch(ctx, "INSERT INTO k")
		if err != nil {
			return err
		}
		for i := range size {
			if err := ins.Append(uint32(b.writer), uint32(b.n), uint32(i), "some text that is stored with the row"); err != nil {
				return err
			}
		}
		return ins.Send()
	}
	var mu sync.Mutex
	acknowledged, unsure := map[batch]bool{}, map[batch]bool{}
	next := make([]int, writers)
	for round := range rounds {
		s, err := tryRun(t, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := s.client()
		s.exec(c, "CREATE TABLE IF NOT EXISTS k (writer UInt32, batch UInt32, i UInt32, s String) ENGINE = MergeTree ORDER BY (writer, batch, i) SETTINGS non_replicated_deduplication_window = 1000")
		for b := range unsure {
			if err := send(t.Context(), c, b); err != nil {
				t.Fatal(err)
			}
			acknowledged[b] = true
		}
		clear(unsure)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		progressed := make(chan struct{}, 1000)
		for w := range writers {
			wg.Go(func() {
				for ctx.Err() == nil {
					b := batch{w, next[w]}
					next[w]++
					err := send(ctx, c, b)
					mu.Lock()
					if err == nil {
						acknowledged[b] = true
					} else {
						unsure[b] = true
					}
					mu.Unlock()
					if err != nil {
						return
					}
					select {
					case progressed <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 10 + 3*round {
			<-progressed
		}
		if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		cancel()
		wg.Wait()

		s, err = tryRun(t, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		c = s.client()
		rows, err := c.Query(t.Context(), "SELECT writer, batch, count(), uniqExact(i) FROM k GROUP BY writer, batch")
		if err != nil {
			t.Fatal(err)
		}
		found := map[batch]bool{}
		for rows.Next() {
			var w, n uint32
			var count, distinct uint64
			if err := rows.Scan(&w, &n, &count, &distinct); err != nil {
				t.Fatal(err)
			}
			b := batch{int(w), int(n)}
			found[b] = true
			if count != size || distinct != size {
				t.Errorf("round %d: batch %v has %d rows, %d of them different", round, b, count, distinct)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for b := range acknowledged {
			if !found[b] {
				t.Errorf("round %d: batch %v was acknowledged and is gone", round, b)
			}
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d batches acknowledged, %d unsure at the last kill", len(acknowledged), len(unsure))
}
