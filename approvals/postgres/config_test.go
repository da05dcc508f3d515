package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestConfigErrors(t *testing.T) {
	for url, want := range map[string]string{
		"":                                   "postgres://user@host:port/database",
		"mysql://u@h/d":                      "postgres://user@host:port/database",
		"postgres://h:1/d":                   "postgres://user@host:port/database",
		"postgres://u@h:1":                   "postgres://user@host:port/database",
		"postgres://u@h:1/":                  "postgres://user@host:port/database",
		"postgres://u:geheim@h:1/d":          "neither a password nor parameters",
		"postgres://u@h:1/d?sslmode=disable": "neither a password nor parameters",
		"postgres://u@h:port/d":              "can't be read",
		"postgres://u:geheim@h:port/d":       "can't be read",
		"postgres://u@h:1/d?sslpassword=geheim%zz&": "neither a password nor parameters",
	} {
		s, err := New(context.Background(), Config{URL: url, Log: quiet})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v (%v), want %q", url, err, s, want)
		}
	}
}

// What the driver reads on its own must not point the store elsewhere, nor turn
// TLS off.
func TestEnvironmentIsNotAsked(t *testing.T) {
	for k, v := range map[string]string{"PGHOST": "elsewhere", "PGPORT": "1", "PGUSER": "other", "PGPASSWORD": "other", "PGDATABASE": "other", "PGSSLMODE": "disable", "PGTARGETSESSIONATTRS": "any"} {
		t.Setenv(k, v)
	}
	s := open(t, database(t, server))
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if s.cfg.Host != "127.0.0.1" || s.cfg.User != "callgate" {
		t.Errorf("%s@%s", s.cfg.User, s.cfg.Host)
	}
}

// Of several hosts the first that takes writes is used.
func TestSeveralHosts(t *testing.T) {
	cfg := database(t, server)
	cfg.URL = strings.Replace(cfg.URL, "@", "@127.0.0.1:1,", 1)
	s := open(t, cfg)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWrongPassword(t *testing.T) {
	cfg := database(t, server)
	right := cfg.Password
	wrong, asked := true, 0
	cfg.Password = func() (string, error) {
		if asked++; wrong {
			return "wr0ng-geheim", nil
		}
		return right()
	}
	s := open(t, cfg)
	err := s.Check(t.Context())
	if err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "password authentication failed") {
		t.Fatalf("got %v", err)
	}
	// It changed, and nobody restarted anything.
	wrong = false
	s.failed = nil
	if err := s.Check(t.Context()); err != nil || asked < 3 {
		t.Errorf("after the password was put right: %v", err)
	}
	cfg.Password = func() (string, error) { return "", errors.New("no such file") }
	if err := open(t, cfg).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a password: %v", err)
	}
}
