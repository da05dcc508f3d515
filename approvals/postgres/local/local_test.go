package local

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/callgate/callgate/parts"
)

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var out string
	if err := conn.QueryRow(t.Context(), sql).Scan(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// What was committed is there after every process of the server was killed.
func TestServer(t *testing.T) {
	s, err := Temporary(t.Context(), nil, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.cfg.Dir); !os.IsNotExist(err) {
			t.Errorf("the folder is left: %v", err)
		}
	}()
	url, err := s.Create(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(query(t, url, "SELECT version()"))
	if on := query(t, url, "SELECT current_setting('fsync')"); on != "on" {
		t.Errorf("fsync is %s", on)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE t AS SELECT 'kept' AS x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a killed server answers")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, url, "SELECT x FROM t"); got != "kept" {
		t.Errorf("got %q", got)
	}
	for _, wrong := range []string{strings.Replace(url, s.password, "wrong", 1), strings.Replace(url, ":"+s.password, "", 1)} {
		if conn, err := pgx.Connect(t.Context(), wrong); err == nil {
			t.Errorf("let in without the password: %v", conn)
		}
	}
}

func TestFind(t *testing.T) {
	t.Setenv(part.Env, "/nowhere/postgres")
	if _, err := Find(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "CALLGATE_POSTGRES") {
		t.Errorf("got %v", err)
	}
}

// The pinned one runs, too, wherever another is installed.
func TestPinned(t *testing.T) {
	if testing.Short() {
		t.Skip("it may have to be fetched")
	}
	t.Setenv(part.Env, "")
	binary, err := parts.Get(t.Context(), part, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(part.Env, binary)
	s, err := Temporary(t.Context(), Hasty, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, s.URL("postgres"), "SELECT version()"); !strings.HasPrefix(got, "PostgreSQL "+part.Version) {
		t.Errorf("got %s", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
