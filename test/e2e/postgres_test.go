package e2e

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/approvals/postgres/local"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/demo"
)

// replicas are two of Callgate that share a PostgreSQL: one serves an Envoy, at
// the other people decide.
type replicas struct {
	*world
	db    *local.Server
	logs  *journal
	first string // the configuration of the one that serves
	stop  func() // ends it
	desk  string // the other's console
	group errgroup.Group
}

func (r *replicas) run(ctx context.Context, file string, roles ...app.Role) (func(), error) {
	cfg, err := config.Load(file, nil)
	if err != nil {
		return nil, err
	}
	a, err := app.New(ctx, cfg, app.Options{File: file, Roles: roles, Version: "test", Log: slog.New(slog.NewTextHandler(r.logs, nil))})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	r.group.Go(func() error {
		defer close(done)
		return a.Run(ctx)
	})
	return func() { cancel(); <-done }, nil
}

func startReplicas(t *testing.T) *replicas {
	t.Helper()
	keepSecrets(t)
	r := &replicas{logs: &journal{}}
	var err error
	if r.db, err = local.Temporary(t.Context(), local.Hasty, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.db.Close(); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(r.db.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	t.Setenv("CALLGATE_TEST_PG", password)
	store := "approvals:\n  postgres: {url: \"postgres://" + u.User.Username() + "@" + u.Host + u.Path + "\", password: {env: CALLGATE_TEST_PG}, tls: \"off\"}\n"
	up := make(chan struct{})
	serve := func(ctx context.Context, file string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		setting := func(name string) string {
			_, after, _ := strings.Cut(string(text), "\n  "+name+": ")
			value, _, _ := strings.Cut(after, "\n")
			return value
		}
		if r.desk, err = demo.FreeAddr(); err != nil {
			return err
		}
		r.first = filepath.Join(filepath.Dir(file), "first.yaml")
		second := filepath.Join(filepath.Dir(file), "second.yaml")
		one := strings.Replace(string(text), "approvals:\n", store, 1)
		two := strings.NewReplacer("node: demo", "node: second", "state_dir: state", "state_dir: state-second", setting("console"), `"`+r.desk+`"`, setting("metrics"), `"127.0.0.1:0"`).Replace(one)
		for name, text := range map[string]string{r.first: one, second: two} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				return err
			}
		}
		rules, err := os.OpenFile(filepath.Join(filepath.Dir(file), "policies", "rules.yaml"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = rules.WriteString(refundsByTool)
		if err = errors.Join(err, rules.Close()); err != nil {
			return err
		}
		if r.stop, err = r.run(ctx, r.first, app.Roles...); err != nil {
			return err
		}
		if _, err := r.run(ctx, second, app.Console); err != nil {
			return err
		}
		close(up)
		<-ctx.Done()
		return r.group.Wait()
	}
	w, stop, err := startWith(t.Context(), demo.Config{Dir: filepath.Join(t.TempDir(), "stack"), AnyPorts: true, NoEngine: true, Serve: serve}, &journal{})
	if err != nil {
		t.Fatal(err)
	}
	<-up
	r.world = w
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if strings.Contains(r.logs.String(), password) {
			t.Error("the database's password is in a log")
		}
	})
	return r
}

// decide decides at the other replica.
func (r *replicas) decide(t *testing.T, verb, id string) {
	t.Helper()
	if out, err := r.cli(t, r.bob, "approvals", verb, id, "--server", "http://"+r.desk); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// send makes the call that is held, and tells what came of it.
func (r *replicas) send(t *testing.T, amount string) <-chan answer {
	t.Helper()
	done := make(chan answer, 1)
	go func() {
		a, err := r.try(t.Context(), http1(), r.agent, "POST", "/crm/refunds", strings.Replace(bigRefund, "500", amount, 1))
		if err != nil {
			a.body = err.Error()
		}
		done <- a
	}()
	return done
}

// Approvals in PostgreSQL: decided at another replica, through a restart of the
// one where the call waits, and while the database is away.
func TestPostgres(t *testing.T) {
	r := startReplicas(t)

	done := r.send(t, "500")
	id := held(t, r.world)
	r.decide(t, "approve", id)
	if a := <-done; a.status != 201 || a.header.Get("x-callgate-approval") != id {
		t.Fatalf("approved at another replica: %d %s", a.status, a.body)
	}
	done = r.send(t, "501")
	r.decide(t, "deny", held(t, r.world))
	if a := <-done; a.status != 403 || a.reason() != "refused" {
		t.Fatalf("refused at another replica: %d %s", a.status, a.body)
	}

	// What a client said of itself when its session began is known to whoever shares
	// the store: here, to the process after the restart.
	session, err := elicited(t, r.world)
	if err != nil {
		t.Fatal(err)
	}

	// The replica where a call waits stops. The call ends; its approval does not.
	done = r.send(t, "502")
	id = held(t, r.world)
	r.stop()
	a := <-done
	if a.status != 403 || a.reason() != "approval_pending" || a.header.Get("retry-after") == "" || a.header.Get("x-callgate-approval") != id {
		t.Errorf("its replica stopped: %d %v %s", a.status, a.header, a.body)
	}
	r.decide(t, "approve", id)
	if r.stop, err = r.run(t.Context(), r.first, app.Roles...); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the restarted replica serves", func() bool {
		a, err := r.try(t.Context(), http1(), r.alice, "GET", "/crm/customers/c-1", "")
		return err == nil && a.status == 200
	})
	served := r.REST.Served("refunds.create")
	if a := <-r.send(t, "502"); a.status != 201 || a.header.Get("x-callgate-approval") != id || r.REST.Served("refunds.create") != served+1 {
		t.Errorf("sent again after the restart: %d %s", a.status, a.body)
	}

	var wire *jsonrpc.Error
	if _, err := session.CallTool(t.Context(), refundByTool(80)); !errors.As(err, &wire) || wire.Code != mcp.CodeURLElicitationRequired {
		t.Errorf("after the restart a client that can show a page is told %v", err)
	}
	r.decide(t, "deny", held(t, r.world))

	// Without the database, what needs approval is denied with the reason, and
	// nothing else is.
	if err := r.db.Kill(); err != nil {
		t.Fatal(err)
	}
	served = r.REST.Served("refunds.create")
	if a := <-r.send(t, "503"); a.status != 503 || a.reason() != "approval_unavailable" || r.REST.Served("refunds.create") != served {
		t.Errorf("without the database: %d %s", a.status, a.body)
	}
	if a := r.call(t, http1(), r.alice, "GET", "/crm/customers/c-1", ""); a.status != 200 {
		t.Errorf("another call without the database: %d %s", a.status, a.body)
	}
	if err := r.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It comes back by itself.
	var back <-chan answer
	r.until(t, "calls are held again", func() bool {
		back = r.send(t, "504")
		select {
		case <-back:
			return false
		case <-time.After(500 * time.Millisecond):
			return true
		}
	})
	r.decide(t, "approve", held(t, r.world))
	if a := <-back; a.status != 201 {
		t.Errorf("after the database came back: %d %s", a.status, a.body)
	}
}

// until waits for something to be so.
func (w *world) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for bound := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(bound) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
