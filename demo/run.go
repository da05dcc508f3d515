package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/callgate/callgate/demo/issuer"
)

// RunConfig is what the demo command is told.
type RunConfig struct {
	Executable string    // the callgate binary
	Dir        string    // empty: a temporary one, removed at the end
	Once       bool      // end after the tour
	Out        io.Writer // where the tour goes
}

// Run starts the stack, takes the tour and, unless it is to run once, stays up
// until ctx ends. Its error says which steps did not do what they should.
func Run(ctx context.Context, cfg RunConfig) (err error) {
	begun := time.Now()
	dir := cfg.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "callgate-demo-"); err != nil {
			return fmt.Errorf("make the demo's folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	fmt.Fprintf(cfg.Out, "Callgate demo. Configuration, data and logs are in %s\n\n", dir)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	slog.SetDefault(log) // the issuer's library logs refusals there, which the tour provokes
	stack, err := Start(ctx, Config{Executable: cfg.Executable, Dir: dir, Log: log,
		Progress: func(line string) { fmt.Fprintf(cfg.Out, "  … %s\n", line) }})
	defer func() { err = errors.Join(err, stack.Stop()) }()
	if err != nil {
		return err
	}
	fmt.Fprintf(cfg.Out, "  … ready after %s\n", time.Since(begun).Round(100*time.Millisecond))
	t, err := newTour(ctx, stack, cfg.Out)
	if err != nil {
		return err
	}
	if err := t.take(ctx); err != nil || cfg.Once {
		return err
	}
	if err := t.farewell(); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(cfg.Out, "\nstopping")
	return nil
}

// take runs the steps. A step that fails does not keep the others from running.
func (t *tour) take(ctx context.Context) error {
	var errs []error
	steps := t.steps()
	for i, s := range steps {
		fmt.Fprintf(t.out, "\n── %d. %s\n", i+1, s.title)
		stepCtx, cancel := context.WithTimeout(ctx, 90*time.Second)
		err := s.run(t, stepCtx)
		cancel()
		if err != nil {
			t.line("FAILED", "%v", err)
			errs = append(errs, fmt.Errorf("step %d (%s): %w", i+1, s.title, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(errs) > 0 {
		fmt.Fprintf(t.out, "\n%d of %d steps did not do what they should.\n", len(errs), len(steps))
		return errors.Join(errs...)
	}
	fmt.Fprintf(t.out, "\nAll %d steps did what they should.\n", len(steps))
	return nil
}

// farewell tells what there is to try.
func (t *tour) farewell() error {
	for name, token := range map[string]string{issuer.Alice: t.alice, issuer.Bob: t.bob, issuer.Carol: t.carol, issuer.SupportAgent: t.agent} {
		if err := os.WriteFile(t.file(name+".token"), []byte(token), 0o600); err != nil {
			return fmt.Errorf("keep a token: %w", err)
		}
	}
	env := t.file("env")
	text := fmt.Sprintf("export CALLGATE_CONFIG=%s CALLGATE_SERVER=http://%s CALLGATE_DEMO_CLICKHOUSE_PASSWORD=%s\n",
		t.ConfigFile, t.Addrs.Console, t.secrets["CALLGATE_DEMO_CLICKHOUSE_PASSWORD"])
	if err := os.WriteFile(env, []byte(text), 0o600); err != nil {
		return fmt.Errorf("keep the environment: %w", err)
	}
	fmt.Fprintf(t.out, `
It stays up. Ctrl-C ends it.

  Envoy        http://%[1]s     (/crm REST, /mcp MCP, gRPC callgate.demo.orders.v1.Orders)
  Envoy admin  http://%[2]s
  console      http://%[3]s     (approvals in a browser: bob, bob-demo-password; and the admin API)
  metrics      http://%[4]s/metrics
  ClickHouse   http://%[5]s     (user default, password in %[6]s/env)
  issuer       %[7]s
  tokens       %[6]s/alice.token  bob.token  carol.token  support-agent.token
  policies     %[6]s/policies     (edit them; they are live at once)

Five things to try in another terminal:

  . %[6]s/env
  curl -H "Authorization: Bearer $(cat %[6]s/alice.token)" http://%[1]s/crm/customers/c-1
  curl -H "Authorization: Bearer $(cat %[6]s/support-agent.token)" -H 'content-type: application/json' -d '{"customer":"c-1","amount":500,"currency":"EUR","reason":"broken"}' http://%[1]s/crm/refunds &
  %[8]s approvals list --token-file %[6]s/bob.token
  %[8]s calls list
  %[8]s query "SELECT subject, function, decision, rule, http_status FROM calls ORDER BY time DESC LIMIT 10"
`, t.Addrs.Envoy, t.Addrs.EnvoyAdmin, t.Addrs.Console, t.Addrs.Metrics, t.Addrs.ClickHouse, t.cfg.Dir, t.Issuer.URL(), t.cfg.Executable)
	return nil
}
