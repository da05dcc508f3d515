package credential

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const planted = "planted-s3cret"

func TestNone(t *testing.T) {
	c, err := New(Config{Header: "authorization"})
	if err != nil {
		t.Fatal(err)
	}
	name, value, err := c.Header()
	if c.Name() != "" || name != "" || value != "" || err != nil {
		t.Errorf("%q %q %q %v", c.Name(), name, value, err)
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("CALLGATE_TEST_CREDENTIAL", " "+planted+"\n")
	c, err := New(Config{Header: "authorization", Prefix: "Bearer ", Env: "CALLGATE_TEST_CREDENTIAL"})
	if err != nil {
		t.Fatal(err)
	}
	if name, value, err := c.Header(); c.Name() != "authorization" || name != "authorization" || value != "Bearer "+planted || err != nil {
		t.Errorf("%q %q %v", name, value, err)
	}
	t.Setenv("CALLGATE_TEST_CREDENTIAL", "")
	if _, value, err := c.Header(); !errors.Is(err, ErrMissing) || value != "" || !strings.Contains(err.Error(), "CALLGATE_TEST_CREDENTIAL") {
		t.Errorf("%q, %v", value, err)
	}
}

func TestUnfitValuesAreRefusedAndNotQuoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for name, v := range map[string]string{"empty": "", "spaces": " \n\t ", "line break": planted + "\nx-admin: 1", "carriage return": planted + "\rx",
		"delete": planted + "\x7f!", "tab": planted + "\tx"} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(v), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("CALLGATE_TEST_CREDENTIAL", v)
			for _, cfg := range []Config{{Header: "h", Env: "CALLGATE_TEST_CREDENTIAL"}, {Header: "h", File: path}} {
				_, err := New(cfg)
				if !errors.Is(err, ErrMissing) {
					t.Fatalf("%+v: %v", cfg, err)
				}
				if strings.Contains(err.Error(), planted) {
					t.Errorf("the error quotes the value: %v", err)
				}
			}
		})
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if _, err := New(Config{Header: "h", File: path}); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is not there: %v", err)
	}
	write := func(v string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	c, err := New(Config{Header: "h", Prefix: "Key ", File: path})
	if err != nil {
		t.Fatal(err)
	}
	look := func() (string, error) {
		c.mu.Lock()
		c.checked = time.Time{} // as if lookAgain had passed
		c.mu.Unlock()
		_, v, err := c.Header()
		return v, err
	}
	if v, err := look(); v != "Key one" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	write("another")
	if v, err := look(); v != "Key another" || err != nil {
		t.Errorf("after a change: %q, %v", v, err)
	}
	// A credential that was taken away is not used on.
	write("\n")
	if v, err := look(); v != "" || !errors.Is(err, ErrMissing) {
		t.Errorf("emptied: %q, %v", v, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if v, err := look(); v != "" || !errors.Is(err, ErrMissing) {
		t.Errorf("gone: %q, %v", v, err)
	}
	write("three")
	if v, err := look(); v != "Key three" || err != nil {
		t.Errorf("back: %q, %v", v, err)
	}
}
