package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// stricter is added to the rules for a while.
const stricter = `
  - name: customers are closed
    connections: [crm]
    functions: [customers.get]
    action: deny
    message: customers are closed while they are checked
`

// push opens one function to one caller for an hour, and then tries, pushes and
// takes back a stricter policy.
func (t *tour) push(ctx context.Context) error {
	if a, err := t.rest(ctx, "alice", t.alice, "GET", "/crm/reports/quarter", ""); err != nil || a.reason != "no_rule" {
		return errors.Join(err, fmt.Errorf("want a report to be closed to alice, got %d", a.status))
	}
	if _, err := t.callgate(ctx, t.bob, "grants", "add", "--identity", "alice", "--connection", "crm", "--function", "reports.get", "--for", "1h", "--reason", "INC-7"); err != nil {
		return fmt.Errorf("give a grant: %w", err)
	}
	a, err := t.rest(ctx, "alice", t.alice, "GET", "/crm/reports/quarter", "")
	if err != nil || a.status != 200 {
		return errors.Join(err, fmt.Errorf("want the report with a grant, got %d", a.status))
	}
	row, err := t.row(ctx, a.id)
	if err != nil {
		return err
	}
	if rule := fmt.Sprint(row["rule"]); !strings.HasPrefix(rule, "grant:grt_") {
		return fmt.Errorf("want the row to name the grant, got %q", rule)
	}

	dir := t.file("stricter")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for the stricter policy: %w", err)
	}
	for name, more := range map[string]string{"connections.yaml": "", "rules.yaml": stricter} {
		text, err := os.ReadFile(filepath.Join(t.Policies, name))
		if err != nil {
			return fmt.Errorf("read the policy: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(text, more...), 0o600); err != nil {
			return fmt.Errorf("write the stricter policy: %w", err)
		}
	}
	var exit *exec.ExitError
	out, err := t.callgate(ctx, t.bob, "policy", "backtest", "--policy", dir, "--since", "1h")
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, "customers are closed") {
		return fmt.Errorf("want backtest to find calls that would be denied: %w", err)
	}
	if _, err := t.callgate(ctx, t.bob, "policy", "push", dir, "-m", "customers are checked"); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if a, err = t.rest(ctx, "alice", t.alice, "GET", "/crm/customers/c-1", ""); err != nil || a.status != 403 {
		return errors.Join(err, fmt.Errorf("want the pushed policy to deny, got %d", a.status))
	}
	if _, err := t.callgate(ctx, t.bob, "policy", "rollback", "-m", "checked"); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	if a, err = t.rest(ctx, "alice", t.alice, "GET", "/crm/customers/c-1", ""); err != nil || a.status != 200 {
		return errors.Join(err, fmt.Errorf("want the policy before to decide again, got %d", a.status))
	}
	_, err = t.callgate(ctx, t.bob, "policy", "history")
	return err
}
