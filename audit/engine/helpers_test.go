//go:build linux

package engine

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const (
	childEnv = "ENGINE_TEST_CHILD"
	password = "corr'ect horse \\battery"
)

// TestMain makes the test binary its own `callgate clickhouse`.
func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "engine":
		if err := childEngine(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "signals":
		if err := childSignals(); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	case "parent":
		childParent()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func childEngine() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cfg Config
	flags := flag.NewFlagSet("clickhouse", flag.ContinueOnError)
	flags.StringVar(&cfg.Path, "path", "", "")
	flags.StringVar(&cfg.Addr, "addr", "", "")
	flags.StringVar(&cfg.User, "user", "", "")
	flags.Int64Var(&cfg.MaxMemory, "max-memory", 0, "")
	flags.IntVar(&cfg.Connections, "connections", 0, "")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	cfg.Library = os.Getenv("CALLGATE_CHDB")
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return Main(ctx, cfg, nil)
}

// childSignals loads the engine, opens and closes sessions, and then does what
// only works while Go's own signal handlers are in place.
func childSignals() error {
	before := saveSignals()
	open, err := loadEngine(os.Getenv("CALLGATE_CHDB"))
	if err != nil {
		return err
	}
	for range 3 {
		s, err := open([]string{"clickhouse", "--path=" + os.Getenv("ENGINE_TEST_PATH")})
		if err != nil {
			return err
		}
		defer s.close()
		if _, _, err := s.whole("SELECT 1", "Null", nil); err != nil {
			return err
		}
	}
	for sig, record := range saveSignals() {
		if record != before[sig] {
			fmt.Println("another handler for", sig)
		}
	}
	defer func() { fmt.Println("recovered:", recover() != nil) }()
	var nowhere *int
	fmt.Println(*nowhere)
	return nil
}

// childParent starts an engine, says where, and waits to be killed.
func childParent() {
	p, err := Start(context.Background(), ProcessConfig{
		Config: Config{Path: os.Getenv("ENGINE_TEST_PATH"), Addr: "127.0.0.1:0", Password: password},
		Env:    []string{childEnv + "=engine"},
	}, nil)
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println(p.PID())
	select {}
}

// server is an engine in a child process, and its clients.
type server struct {
	t *testing.T
	*Process
	path   string
	stderr *buffer
}

// buffer is what a child said.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func tryRun(t *testing.T, path string, change func(*ProcessConfig)) (*server, error) {
	t.Helper()
	s := &server{t: t, path: path, stderr: &buffer{}}
	cfg := ProcessConfig{
		Config: Config{Path: path, Addr: "127.0.0.1:0", Password: password, Connections: 4, MaxMemory: 512 << 20},
		Env:    []string{childEnv + "=engine"},
		Stderr: s.stderr,
	}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a first run downloads
	defer cancel()
	p, err := Start(ctx, cfg, func(line string) { t.Log(line) })
	if err != nil {
		return nil, err
	}
	s.Process = p
	return s, nil
}

func run(t *testing.T, path string) *server {
	t.Helper()
	s, err := tryRun(t, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v\n%s", err, s.stderr)
		}
	})
	return s
}

// client is clickhouse-go over HTTP.
func (s *server) client(change ...func(*clickhouse.Options)) driver.Conn {
	s.t.Helper()
	opt := &clickhouse.Options{
		Protocol: clickhouse.HTTP,
		Addr:     []string{s.Addr()},
		Auth:     clickhouse.Auth{Username: "default", Password: password},
	}
	for _, f := range change {
		f(opt)
	}
	conn, err := clickhouse.Open(opt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

func (s *server) exec(c driver.Conn, sql string) {
	s.t.Helper()
	if err := c.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatalf("%.100s: %v", sql, err)
	}
}

func (s *server) count(c driver.Conn, sql string) (n uint64) {
	s.t.Helper()
	if err := c.QueryRow(s.t.Context(), sql).Scan(&n); err != nil {
		s.t.Fatalf("%.100s: %v", sql, err)
	}
	return n
}

// answer is what plain HTTP gets.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// post sends a body with parameters, "name=value".
func (s *server) post(body string, params ...string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, strings.NewReader(body), nil, params...)
}

func (s *server) do(method string, body io.Reader, header http.Header, params ...string) answer {
	s.t.Helper()
	values := url.Values{}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		values.Set(name, value)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.Addr()+"/?"+values.Encode(), body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = header.Clone()
	if header == nil {
		req.Header = http.Header{}
		req.SetBasicAuth("default", password)
	}
	req.Header.Set("Accept-Encoding", req.Header.Get("Accept-Encoding"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(raw), err}
}

func (s *server) want(a answer, body string) {
	s.t.Helper()
	if a.status != http.StatusOK || a.body != body || a.err != nil {
		s.t.Errorf("got %d %q (%v), want %q", a.status, a.body, a.err, body)
	}
}

// wantFail checks an error's status, code and words.
func (s *server) wantFail(a answer, status, code int, words ...string) {
	s.t.Helper()
	if a.status != status || a.header.Get("X-ClickHouse-Exception-Code") != fmt.Sprint(code) {
		s.t.Errorf("got %d, code %s: %.300s; want %d, code %d", a.status, a.header.Get("X-ClickHouse-Exception-Code"), a.body, status, code)
	}
	for _, word := range words {
		if !strings.Contains(a.body, word) {
			s.t.Errorf("%.300q lacks %q", a.body, word)
		}
	}
}

// trickle begins an INSERT into sink and sends some data, but never the end.
func (s *server) trickle(ctx context.Context, data string) (stop func()) {
	s.t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Addr()+"/?query="+url.QueryEscape("INSERT INTO sink FORMAT TSV"), r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth("default", password)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
	}()
	if _, err := io.WriteString(w, data); err != nil {
		s.t.Error(err)
	}
	return func() { w.CloseWithError(io.ErrUnexpectedEOF) }
}
