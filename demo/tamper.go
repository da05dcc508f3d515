package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// tamper verifies the trail, changes it as somebody could who has ClickHouse's
// password, and verifies again. At its end the trail is as it was.
func (t *tour) tamper(ctx context.Context) error {
	a, err := t.rest(ctx, "alice", t.alice, "GET", "/crm/customers/c-2", "")
	if err != nil {
		return err
	}
	if _, err := t.row(ctx, a.id); err != nil {
		return err
	}
	if err := t.signed(ctx, a.id); err != nil {
		return err
	}
	out, err := t.callgate(ctx, "", "verify", "--witness", t.file("checkpoints.witness"))
	if err != nil || !strings.Contains(out, "OK: what was checked") {
		return fmt.Errorf("the trail does not verify: %w", err)
	}
	change := func(from, to string) error {
		sql := fmt.Sprintf("ALTER TABLE callgate.calls UPDATE acting = '%s' WHERE acting = '%s' AND call_id = '%s'", to, from, a.id)
		t.line("insider", "%s", sql)
		return t.clickhouse(ctx, sql)
	}
	if err := change("alice", "mallory"); err != nil {
		return err
	}
	out, err = t.callgate(ctx, "", "verify")
	if err == nil || !strings.Contains(out, "FIRST EDITED calls") || !strings.Contains(out, a.id) {
		return errors.New("the change was not found")
	}
	if err := change("mallory", "alice"); err != nil {
		return err
	}
	if out, err := t.quietly(ctx, "", "verify"); err != nil {
		return fmt.Errorf("the trail as it was does not verify: %w: %s", err, out)
	}
	t.line("auditor", "a proof that needs the public key and nothing else")
	proof, keys := t.file("call.proof"), t.file("auditor.keys")
	if out, err = t.callgate(ctx, "", "audit", "keys", "export"); err != nil {
		return err
	}
	if err := os.WriteFile(keys, []byte(out), 0o600); err != nil {
		return err
	}
	if _, err := t.callgate(ctx, "", "verify", "--export", a.id, "-o", proof); err != nil {
		return err
	}
	out, err = t.callgate(ctx, "", "verify", "--proof", proof, "--key", keys)
	if err != nil || !strings.Contains(out, "PROVED decided") {
		return errors.New("the proof does not hold")
	}
	return nil
}

// signed waits until a checkpoint covers the call.
func (t *tour) signed(ctx context.Context, id string) error {
	for {
		out, err := t.quietly(ctx, "", "verify", id)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no checkpoint covers the call: %s", out)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// clickhouse runs a statement as somebody who has the engine's password.
func (t *tour) clickhouse(ctx context.Context, sql string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.Addrs.ClickHouse+"/?mutations_sync=2", strings.NewReader(sql))
	if err != nil {
		return err
	}
	req.SetBasicAuth("default", t.secrets["CALLGATE_DEMO_CLICKHOUSE_PASSWORD"])
	resp, err := t.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ClickHouse answers %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
