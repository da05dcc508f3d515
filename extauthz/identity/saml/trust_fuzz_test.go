package saml

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzMetadata: a file that is believed names a certificate; others are an error.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{"", "<EntityDescriptor/>", `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="e"><IDPSSODescriptor/></EntityDescriptor>`,
		`<!DOCTYPE a [<!ENTITY x "y">]><EntityDescriptor>&x;</EntityDescriptor>`, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(dir, "metadata.xml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, read := range []func() (*trust, error){func() (*trust, error) { return fromMetadata(file, "e") }, func() (*trust, error) { return fromPEM(file) }} {
			if got, err := read(); err == nil && len(got.certificates) == 0 {
				t.Errorf("%q is believed and names no certificate", text)
			}
		}
	})
}
