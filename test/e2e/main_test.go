// Package e2e drives everything together: a real Envoy configured over xDS
// alone, the real ClickHouse engine, a real OIDC issuer, real functions, and
// real clients. The serving process runs inside the test, under the race
// detector; where a process must be killed, it is one of its own.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/demo"
	"github.com/callgate/callgate/demo/issuer"
	"github.com/callgate/callgate/test/program"
)

// world is the stack that most tests share.
type world struct {
	*demo.Stack
	dir                          string
	logs                         *journal
	scheme                       string
	alice, bob, carol, agent, ci string
	stale                        string
	own                          string // the agent's token for itself
}

var (
	binary string // callgate, for the engine's process and the command line
	shared *world
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "callgate-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "callgate")
	if err := program.Build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var stop func() error
	shared, stop, err = start(context.Background(), demo.Config{Dir: filepath.Join(dir, "shared"), AnyPorts: true}, false)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the stack:", err)
		return 1
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the stack:", err)
		return 1
	}
	return code
}

// serve is what `callgate serve` does, in this process.
func serve(log *slog.Logger) func(context.Context, string) error {
	return func(ctx context.Context, file string) error {
		cfg, err := config.Load(file, nil)
		if err != nil {
			return err
		}
		a, err := app.New(ctx, cfg, app.Options{File: file, Roles: app.Roles, Version: "test", Log: log})
		if err != nil {
			return err
		}
		return a.Run(ctx)
	}
}

// journal is a log that may be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) log() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// keepSecrets puts the environment back at a test's end: stacks in this process
// find their functions' credentials in it, each its own.
func keepSecrets(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		if k, v, _ := strings.Cut(pair, "="); strings.HasPrefix(k, "CALLGATE_DEMO_") {
			t.Setenv(k, v)
		}
	}
}

func start(ctx context.Context, cfg demo.Config, process bool) (*world, func() error, error) {
	logs := &journal{}
	if !process {
		cfg.Serve = serve(logs.log())
	}
	return startWith(ctx, cfg, logs)
}

// startWith starts a stack whose Callgate is as cfg says.
func startWith(ctx context.Context, cfg demo.Config, logs *journal) (*world, func() error, error) {
	w := &world{dir: cfg.Dir, logs: logs, scheme: "http"}
	if cfg.TLS {
		w.scheme = "https"
	}
	log := logs.log()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	cfg.Executable, cfg.Log = binary, log
	var err error
	if w.Stack, err = demo.Start(ctx, cfg); err != nil {
		return nil, nil, fmt.Errorf("%w\n%s", err, w.logs)
	}
	flows := w.Issuer.Flows(nil)
	token := func(t issuer.Token, err error) string {
		if err != nil {
			panic(fmt.Sprintf("e2e: get a token: %v", err))
		}
		return t.Access
	}
	w.alice = token(flows.Login(ctx, issuer.Alice, issuer.Alice+"-demo-password"))
	w.bob = token(flows.Login(ctx, issuer.Bob, issuer.Bob+"-demo-password"))
	w.carol = token(flows.Login(ctx, issuer.Carol, issuer.Carol+"-demo-password"))
	w.ci = token(flows.ClientCredentials(ctx, issuer.CIDeploy, issuer.CIDeploy+"-demo-secret"))
	w.stale = token(flows.ClientCredentials(ctx, issuer.CIStale, issuer.CIStale+"-demo-secret"))
	w.own = token(flows.ClientCredentials(ctx, issuer.SupportAgent, issuer.SupportAgent+"-demo-secret"))
	w.agent = token(flows.Exchange(ctx, issuer.SupportAgent, issuer.SupportAgent+"-demo-secret", w.alice, w.own))
	return w, w.Stop, nil
}

// patience is how long a call or a command may take: what hangs fails where it does,
// with its name, and not all tests at their end.
const patience = 3 * time.Minute

// answer is what came back of a call.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) id() string     { return a.header.Get("x-callgate-call-id") }
func (a answer) reason() string { return a.header.Get("x-callgate-reason") }

// call makes a call through Envoy with a client.
func (w *world) call(t *testing.T, c *http.Client, token, method, path, body string, header ...string) answer {
	t.Helper()
	a, err := w.try(t.Context(), c, token, method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *world) try(ctx context.Context, c *http.Client, token, method, path, body string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, w.scheme+"://"+w.Addrs.Envoy+path, in)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("content-type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	for name, values := range resp.Trailer {
		resp.Header["Trailer-"+name] = values
	}
	return answer{resp.StatusCode, resp.Header, string(data)}, err
}

// raw sends bytes as they are and reads one response.
func (w *world) raw(t *testing.T, request string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", w.Addrs.Envoy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{status: 0, header: http.Header{}, body: err.Error()} // cut off
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// cli runs the command line.
func (w *world) cli(t *testing.T, token string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), w.Environment()...)
	cmd.Env = append(cmd.Env, "CALLGATE_CONFIG="+w.ConfigFile, "CALLGATE_SERVER=http://"+w.Addrs.Console, "CALLGATE_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *world) query(t *testing.T, sql string) []map[string]any {
	t.Helper()
	out, err := w.cli(t, "", "query", "--json", sql)
	if err != nil {
		t.Fatalf("%s: %v: %s", sql, err, out)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// row waits for a call's row, of which there must be exactly one, and compares
// columns with it.
func (w *world) row(t *testing.T, id string, want ...any) map[string]any {
	t.Helper()
	if id == "" {
		t.Fatal("the answer has no call id")
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		rows := w.query(t, "SELECT * FROM calls WHERE call_id = '"+id+"'")
		if len(rows) > 1 {
			t.Fatalf("call %s has %d rows", id, len(rows))
		}
		if len(rows) == 0 {
			if time.Now().After(deadline) {
				t.Fatalf("call %s has no row", id)
			}
			continue
		}
		for i := 0; i < len(want); i += 2 {
			if got, expected := fmt.Sprint(rows[0][want[i].(string)]), fmt.Sprint(want[i+1]); got != expected {
				t.Errorf("row of %s: %s = %s, want %s", id, want[i], got, expected)
			}
		}
		return rows[0]
	}
}

func http1() *http.Client { return &http.Client{Transport: &http.Transport{}} }

func http2() *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: p}}
}
