package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// step is one stop of the tour.
type step struct {
	title string
	run   func(*tour, context.Context) error
}

// tour prints what the steps do.
type tour struct {
	*Stack
	out  io.Writer
	http *http.Client
	// Everybody's tokens.
	alice, bob, carol, ci, stale, agent string
}

// line prints one labelled line of a step.
func (t *tour) line(label, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(t.out, "  %-10s %s\n", label, strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n             "))
}

// callgate runs the command line as a second terminal would, and shows it.
func (t *tour) callgate(ctx context.Context, token string, args ...string) (string, error) {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = a
		if strings.ContainsAny(a, " '*(") {
			shown[i] = `"` + a + `"`
		}
	}
	t.line("terminal 2", "$ callgate %s", strings.Join(shown, " "))
	out, err := t.quietly(ctx, token, args...)
	if out != "" {
		t.line("", "%s", out)
	}
	return out, err
}

// quietly runs the command line without showing it.
func (t *tour) quietly(ctx context.Context, token string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, t.cfg.Executable, args...)
	cmd.Env = append(os.Environ(), t.Environment()...)
	cmd.Env = append(cmd.Env, "CALLGATE_CONFIG="+t.ConfigFile, "CALLGATE_SERVER=http://"+t.Addrs.Console, "CALLGATE_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// settled is how long the tour waits for a call's row.
const settled = 30 * time.Second

// rowColumns are shown of each call's row.
const rowColumns = "subject, acting, kind, connection, function, decision, rule, reason, approval_by, http_status, rpc_code, tool_error, masked.type, answered, finished"

// row waits for a call's row, prints it without its empty columns, and returns
// it with all the columns of the table.
func (t *tour) row(ctx context.Context, id string) (map[string]any, error) {
	if id == "" {
		return nil, fmt.Errorf("the answer has no x-callgate-call-id")
	}
	ctx, cancel := context.WithTimeout(ctx, settled)
	defer cancel()
	for {
		out, err := t.quietly(ctx, "", "query", "--json", "SELECT * FROM calls WHERE call_id = '"+id+"'")
		if err != nil {
			return nil, fmt.Errorf("query the call's row: %w: %s", err, out)
		}
		var rows []map[string]any
		if err := json.Unmarshal([]byte(out), &rows); err != nil {
			return nil, fmt.Errorf("read the call's row: %w", err)
		}
		switch len(rows) {
		case 1:
			t.line("recorded", "%s", describe(rows[0]))
			return rows[0], nil
		case 0:
		default:
			return nil, fmt.Errorf("call %s has %d rows, want exactly one", id, len(rows))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("call %s has no row after %s", id, settled)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func describe(row map[string]any) string {
	var parts []string
	for _, c := range strings.Split(rowColumns, ", ") {
		v, err := json.Marshal(row[c])
		if err != nil {
			continue
		}
		switch s := string(v); s {
		case "null", `""`, "[]", "0", "false", "{}":
		default:
			parts = append(parts, c+"="+s)
		}
	}
	return strings.Join(parts, " ")
}

// want checks columns of a row.
func want(row map[string]any, pairs ...any) error {
	for i := 0; i < len(pairs); i += 2 {
		column := pairs[i].(string)
		if got, expected := fmt.Sprint(row[column]), fmt.Sprint(pairs[i+1]); got != expected {
			return fmt.Errorf("the row says %s = %s, want %s", column, got, expected)
		}
	}
	return nil
}
