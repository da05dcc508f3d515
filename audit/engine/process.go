package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopBound is how long a child may take to drain and close before it is
// killed: its own five seconds for running statements, and as much again.
const stopBound = 2 * drain

// ProcessConfig is an engine in a child process.
type ProcessConfig struct {
	Config
	// Executable is the program that runs Main, with Args before the engine's
	// own flags; the defaults are this program and "clickhouse". The flags are
	// --path, --addr, --user, --max-memory (bytes) and --connections.
	Executable string
	Args       []string
	// Env is added to the child's environment, which otherwise holds only what
	// the engine needs: not this process's secrets.
	Env []string
	// Stderr gets the child's log and complaints; the default is os.Stderr.
	Stderr io.Writer
}

// Process is an engine that runs as a child of this process. It ends with this
// process, however that ends.
type Process struct {
	addr string
	proc *os.Process
	log  *slog.Logger
	done chan struct{}
	err  error // valid once done is closed
	once sync.Once
	quit chan struct{} // closed when the end was asked for
}

// Start runs an engine in a child process, and returns once it answers. If
// cfg.Library is empty, it is found or fetched first; progress is told what may
// take time. The child outlives ctx, which bounds the start alone: Stop ends
// it.
//
// The address is listened on here and handed to the child, so that it is known
// and taken before the engine is up.
func Start(ctx context.Context, cfg ProcessConfig, progress func(line string)) (*Process, error) {
	if cfg.Library == "" {
		library, err := Library(ctx, progress)
		if err != nil {
			return nil, err
		}
		cfg.Library = library
	}
	p, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start the ClickHouse engine: %w", err)
	}
	return p, nil
}

func start(ctx context.Context, cfg ProcessConfig) (*Process, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if cfg.Executable == "" {
		executable, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		cfg.Executable = executable
	}
	if cfg.Args == nil {
		cfg.Args = []string{"clickhouse"}
	}
	if cfg.Stderr == nil {
		cfg.Stderr = os.Stderr
	}
	listener := cfg.Listener
	if listener == nil {
		l, err := net.Listen("tcp", cfg.Addr)
		if err != nil {
			return nil, fmt.Errorf("listen: %w: choose another address", err)
		}
		listener = l
	}
	// The child has its own copy; ours would keep a dead engine's port open.
	defer listener.Close()
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("a %T can't be handed to another process: use a TCP listener", listener)
	}
	socket, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("hand over the listener: %w", err)
	}
	defer socket.Close()
	ready, report, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("watch the start: %w", err)
	}
	defer ready.Close()
	defer report.Close()

	addr := listener.Addr().String()
	cmd := exec.Command(cfg.Executable, append(cfg.Args,
		"--path", cfg.Path, "--addr", addr, "--user", cfg.User,
		"--max-memory", strconv.FormatInt(cfg.MaxMemory, 10), "--connections", strconv.Itoa(cfg.Connections))...)
	cmd.Env = append(environment(cfg), cfg.Env...)
	cmd.Stderr, cmd.Stdout = cfg.Stderr, cfg.Stderr
	cmd.ExtraFiles = []*os.File{socket, report} // descriptors 3 and 4
	cmd.Dir = filepath.Dir(cfg.Executable)
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = childAttributes()

	p := &Process{addr: addr, log: cfg.Log, done: make(chan struct{}), quit: make(chan struct{})}
	started := make(chan error)
	go p.supervise(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", cfg.Executable, err)
	}
	report.Close()

	answer := make(chan string, 1)
	go func() {
		// Ends at the child's «ready», or when the child has closed its end.
		text, _ := io.ReadAll(io.LimitReader(ready, 64<<10))
		answer <- strings.TrimSpace(string(text))
	}()
	select {
	case text := <-answer:
		if text == readyLine {
			return p, nil
		}
		p.Stop()
		if text == "" {
			return nil, fmt.Errorf("its process ended before it was ready (%v); its last words are on standard error", p.Err())
		}
		return nil, errors.New(strings.TrimPrefix(text, "start the ClickHouse engine: "))
	case <-ctx.Done():
		p.kill()
		ready.Close()
		<-p.done
		return nil, fmt.Errorf("it was not ready in time: %w", ctx.Err())
	}
}

// environment is what the child gets: enough to run, none of our secrets but
// the one that is its own.
func environment(cfg ProcessConfig) []string {
	env := []string{
		PasswordEnv + "=" + cfg.Password,
		libraryPart.Env + "=" + cfg.Library,
		listenerEnv + "=3",
		readyEnv + "=4",
	}
	for _, name := range []string{"PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR", "GOCOVERDIR", "GORACE", "GODEBUG", "GOTRACEBACK"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// supervise starts the child and waits for it on one thread: Linux ties the
// signal at a parent's death to the thread that forked.
func (p *Process) supervise(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if err == nil {
		p.proc = cmd.Process
	}
	started <- err
	if err != nil {
		return
	}
	err = cmd.Wait()
	select {
	case <-p.quit:
	default:
		// Nobody asked for it.
		if err == nil {
			err = errors.New("exit status 0")
		}
		err = fmt.Errorf("the ClickHouse engine's process ended by itself: %w", err)
		p.log.Error("the ClickHouse engine is gone", "pid", p.proc.Pid, "err", err)
	}
	p.err = err
	close(p.done)
}

// Addr is where the engine listens, host:port.
func (p *Process) Addr() string { return p.addr }

// PID is the child's process id.
func (p *Process) PID() int { return p.proc.Pid }

// Done is closed when the child has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says, once Done is closed, why the child ended; nil if it was stopped
// and went cleanly.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop asks the child to drain and close, kills it if it has not within ten
// seconds, and returns once it is gone. It may be called more than once.
func (p *Process) Stop() error {
	p.once.Do(func() { close(p.quit) })
	if err := p.signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the ClickHouse engine: %w", err)
	}
	bound := time.NewTimer(stopBound)
	defer bound.Stop()
	select {
	case <-p.done:
	case <-bound.C:
		p.log.Warn("the ClickHouse engine does not stop: killing it", "pid", p.proc.Pid)
		p.kill()
		<-p.done
	}
	return p.Err()
}

func (p *Process) kill() {
	p.once.Do(func() { close(p.quit) })
	p.signal(syscall.SIGKILL)
}

// signal reaches a child that still runs; one that is gone is no error.
func (p *Process) signal(sig syscall.Signal) error {
	if err := p.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
