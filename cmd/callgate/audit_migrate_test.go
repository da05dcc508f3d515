package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// auditMigrate runs the command with a configuration of its own.
func auditMigrate(t *testing.T, settings string, args ...string) (string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "callgate.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&log)
	root.SetArgs(append([]string{"-c", file, "audit", "migrate"}, args...))
	err := root.ExecuteContext(t.Context())
	if err != nil {
		return err.Error(), exitCode(err)
	}
	return out.String(), exitOK
}

// The printed DDL is what deploy/clickhouse has, and is printed though nobody
// could be reached.
func TestAuditMigrateDryRun(t *testing.T) {
	for file, settings := range map[string]string{
		"schema.sql":  `audit: {clickhouse: {url: "http://127.0.0.1:1"}}`,
		"cluster.sql": `audit: {clickhouse: {cluster: trail, insert_quorum: 2}}`,
	} {
		want, err := os.ReadFile(filepath.Join("../../deploy/clickhouse", file))
		if err != nil {
			t.Fatal(err)
		}
		if got, code := auditMigrate(t, settings, "--dry-run"); got != string(want) || code != exitOK {
			t.Errorf("%s differs (%d):\n%s", file, code, got)
		}
	}
}

func TestAuditMigrateErrors(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for _, c := range []struct {
		settings string
		args     []string
		code     int
	}{
		{`audit: {clickhouse: {url: "http://` + free.Addr().String() + `"}}`, nil, exitUnreachable},
		{`{}`, nil, exitUsage}, // no url
		{`audit: {clickhouse: {insert_quorum: 2}}`, []string{"--dry-run"}, exitUsage},
		{`audit: {clickhouse: {cluster: "a'b"}}`, []string{"--dry-run"}, exitUsage},
		{`audit: {clickhouse: {cluster: a, replica_path: /x}}`, []string{"--dry-run"}, exitUsage},
		{`audit: {clickhouse: {cluster: a, replica_path: "/x'/{table}"}}`, []string{"--dry-run"}, exitUsage},
		{`audit: {clickhouse: {cluster: a, insert_quorum: most}}`, []string{"--dry-run"}, exitUsage},
		{`{}`, []string{"--dry-run", "--again"}, exitUsage},
	} {
		if out, code := auditMigrate(t, c.settings, c.args...); code != c.code {
			t.Errorf("%s %v: %d, want %d: %s", c.settings, c.args, code, c.code, out)
		}
	}
}
