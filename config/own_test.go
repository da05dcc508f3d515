package config

import (
	"os"
	"path/filepath"
	"testing"
)

// No policy sends the gateway's own secrets to a service.
func TestOwnSecrets(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"ch.key", "tls.key", "crm.key", "state/hash.key"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "ch.key"), filepath.Join(dir, "link.key")); err != nil {
		t.Fatal(err)
	}
	c := &Config{StateDir: state}
	c.Audit.ClickHouse.Password = Secret{Env: "CH_PASSWORD"}
	c.Audit.HashKey = Secret{File: filepath.Join(dir, "ch.key")}
	c.Control.TLS.KeyFile = filepath.Join(dir, "tls.key")
	c.Identity.Issuers = []Issuer{{Introspection: Introspection{Secret: Secret{Env: "IDP_SECRET"}}}}
	c.Policy.Connections = []Connection{{Credential: Credential{Secret: Secret{Env: "CRM_KEY"}}}}
	for _, x := range []struct {
		s   Secret
		own bool
	}{
		{Secret{Env: "CRM_KEY"}, false},
		{Secret{Env: "CH_PASSWORD"}, true},
		{Secret{Env: "IDP_SECRET"}, true},
		{Secret{File: filepath.Join(dir, "crm.key")}, false},
		{Secret{File: filepath.Join(dir, "ch.key")}, true},
		{Secret{File: filepath.Join(dir, "link.key")}, true},
		{Secret{File: filepath.Join(dir, "x", "..", "tls.key")}, true},
		{Secret{File: filepath.Join(state, "hash.key")}, true},
		{Secret{File: filepath.Join(state, "not-there-yet")}, true},
		{Secret{File: filepath.Join(dir, "state-of-the-art.key")}, false},
		{Secret{}, false},
	} {
		if err := c.Own(x.s); (err != nil) != x.own {
			t.Errorf("%+v: %v", x.s, err)
		}
	}
}
