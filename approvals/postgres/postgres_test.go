package postgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/postgres/local"
	"github.com/callgate/callgate/approvals/storetest"
)

// server is the PostgreSQL of all tests that don't kill it.
var server *local.Server

func TestMain(m *testing.M) {
	if os.Getenv(replicaEnv) != "" {
		os.Exit(m.Run()) // a process that a test kills
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if server, err = local.Temporary(context.Background(), local.Hasty, func(line string) { fmt.Fprintln(os.Stderr, line) }); err != nil {
		fmt.Fprintln(os.Stderr, "start PostgreSQL:", err)
		return 1
	}
	defer server.Close()
	return m.Run()
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// configOf is the configuration for a database of a local server.
func configOf(t testing.TB, address string) Config {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	u.User, u.RawQuery = url.User(u.User.Username()), ""
	return Config{URL: u.String(), Password: func() (string, error) { return password, nil }, MaxConnections: 5, Log: quiet}
}

// database makes a fresh one.
func database(t testing.TB, s *local.Server) Config {
	t.Helper()
	address, err := s.Create(context.Background(), "t_"+strings.ToLower(rand.Text()))
	if err != nil {
		t.Fatal(err)
	}
	return configOf(t, address)
}

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func(*testing.T) approvals.Store {
			cfg := database(t, server)
			return func(t *testing.T) approvals.Store { return open(t, cfg) }
		})
	})
}
