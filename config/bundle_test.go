package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const bundled = `node: a
audit:
  hash_key: {env: SOME_KEY}
# The connection.
connections:
  - name: crm
    protocol: http
    upstream: {url: "https://crm.internal", ca_file: certs/ca.pem}
    functions: [{name: get, method: GET, path: /x}]
    credential: {file: crm.key}
log: {level: debug}
`

func TestBundleSaysWhatItsFilesSay(t *testing.T) {
	dir, other, home := t.TempDir(), t.TempDir(), t.TempDir()
	file := write(t, dir, "callgate.yaml", bundled)
	write(t, dir, "certs/ca.pem", "a certificate")
	write(t, dir, "policies/rules.yaml", "rules:\n  - {name: all, action: allow}\n")

	b, pol, err := LoadBundle(file, filepath.Join(dir, "policies"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range b.Files {
		if strings.Contains(string(f.Content), "SOME_KEY") || strings.Contains(string(f.Content), "debug") {
			t.Errorf("%s carries settings that are not policy:\n%s", f.Name, f.Content)
		}
	}
	again, err := b.Policy(other, home)
	if err != nil {
		t.Fatal(err)
	}
	if again.Version != pol.Version || len(again.Rules) != 1 {
		t.Errorf("the bundle is version %s, its files are %s", again.Version, pol.Version)
	}
	c := again.Connections[0]
	if got, err := os.ReadFile(c.Upstream.CAFile); err != nil || string(got) != "a certificate" || filepath.Dir(c.Upstream.CAFile) != other {
		t.Errorf("ca_file is laid out as %s: %q, %v", c.Upstream.CAFile, got, err)
	}
	if want := filepath.Join(home, "crm.key"); c.Credential.Secret.File != want {
		t.Errorf("the secret is looked up at %s, want %s", c.Credential.Secret.File, want)
	}
	if c.Position.Line != 6 || c.Position.File != "callgate.yaml" {
		t.Errorf("the connection stands at %s, want callgate.yaml:6", c.Position)
	}

	write(t, dir, "certs/ca.pem", "another certificate")
	if _, changed, err := LoadBundle(file, filepath.Join(dir, "policies")); err != nil || changed.Version == pol.Version {
		t.Errorf("a changed certificate left the version at %s (%v)", changed.Version, err)
	}
}

func TestBundleRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"a file that is missing": {strings.Replace(bundled, "certs/ca.pem", "certs/none.pem", 1), "names certs/none.pem, which can't be read"},
		"an anchor from elsewhere": {strings.NewReplacer("node: a", "node: &n crm", "- name: crm", "- name: *n", ", ca_file: certs/ca.pem", "").Replace(bundled),
			"anchor from another setting"},
		"what is no policy": {"rules:\n  - {name: a, action: alow}\n", `action "alow" is not known`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, _, err := ReadBundle(write(t, dir, "callgate.yaml", c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestBundleCannotReachOutside(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "secret.pem", "not yours")
	folder := filepath.Join(dir, "policy")
	b := Bundle{Files: []File{{Name: "c.yaml", Content: []byte(strings.Replace(bundled, "certs/ca.pem", "../secret.pem", 1))}},
		References: []Reference{{File: "c.yaml", Path: "../secret.pem", Content: []byte("carried along")}}}
	pol, err := b.Policy(folder, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(pol.Connections[0].Upstream.CAFile); err != nil || string(got) != "carried along" {
		t.Errorf("read %q, %v", got, err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "secret.pem")); string(got) != "not yours" {
		t.Errorf("a bundle wrote outside its folder: %q", got)
	}
	b.References = nil
	if pol, err = b.Policy(folder, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(pol.Connections[0].Upstream.CAFile); err == nil {
		t.Error("a file that the bundle does not carry was found")
	}
}
