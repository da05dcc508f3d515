package saml

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/crewjam/saml"
)

const (
	// reloadEvery is how soon a changed metadata or certificate file counts.
	reloadEvery = 15 * time.Second
	maxMetadata = 4 << 20 // bytes
	minRSA      = 2048    // bits
)

// trust is what a provider signs with.
type trust struct {
	certificates []*x509.Certificate
	// until is when the metadata says that it is no longer valid; zero: never.
	until time.Time
}

func (t *trust) current(now time.Time) bool { return t.until.IsZero() || now.Before(t.until) }

func (t *trust) same(o *trust) bool {
	return o != nil && t.until.Equal(o.until) && slices.EqualFunc(t.certificates, o.certificates, (*x509.Certificate).Equal)
}

// Run reads the providers' files again when they change, until ctx ends. A file
// that can't be read changes nothing.
func (v *Verifier) Run(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, p := range v.providers {
			if err := p.load(); err != nil {
				v.cfg.Log.ErrorContext(ctx, "reading what a SAML provider signs with; the known certificates stay in use", "provider", p.Name, "error", err)
			}
		}
	}
}

// load reads the provider's file.
func (p *provider) load() error {
	var next *trust
	var err error
	if p.MetadataFile != "" {
		next, err = fromMetadata(p.MetadataFile, p.EntityID)
	} else {
		next, err = fromPEM(p.CertificateFile)
	}
	if err != nil {
		return err
	}
	// RSA alone: the library checks ECDSA in another form than XML Signature
	// has it in.
	next.certificates = slices.DeleteFunc(next.certificates, func(c *x509.Certificate) bool { return c.PublicKeyAlgorithm != x509.RSA })
	if len(next.certificates) == 0 {
		return errors.New("it has no signing certificate with an RSA key; others are not supported")
	}
	for _, c := range next.certificates {
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
			return fmt.Errorf("a signing certificate has an RSA key of %d bits; %d is the least", key.N.BitLen(), minRSA)
		}
	}
	if old := p.trusted.Load(); !next.same(old) {
		p.trusted.Store(next)
		// A certificate may be gone because its key leaked.
		p.generation.Add(1)
	}
	return nil
}

func fromPEM(file string) (*trust, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificate_file: %w", err)
	}
	t := &trust{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificate_file %s holds a %s; want certificates only", file, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate_file %s: %w", file, err)
		}
		t.certificates = append(t.certificates, c)
	}
	if len(t.certificates) == 0 {
		return nil, fmt.Errorf("certificate_file %s holds no PEM certificate", file)
	}
	return t, nil
}

// fromMetadata reads the signing certificates of an identity provider's
// metadata (saml-metadata §2.4.3), which is trusted because of where it lies.
func fromMetadata(file, entity string) (*trust, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read metadata_file: %w", err)
	}
	if len(data) > maxMetadata {
		return nil, fmt.Errorf("metadata_file %s is larger than %d bytes", file, maxMetadata)
	}
	var one saml.EntityDescriptor
	var many saml.EntitiesDescriptor
	found := &one
	if err := xml.Unmarshal(data, &one); err != nil {
		if xml.Unmarshal(data, &many) != nil {
			return nil, fmt.Errorf("metadata_file %s is no SAML metadata: %w", file, err)
		}
		at := slices.IndexFunc(many.EntityDescriptors, func(d saml.EntityDescriptor) bool { return d.EntityID == entity })
		if at < 0 {
			return nil, fmt.Errorf("metadata_file %s has no entity %q; correct entity_id", file, entity)
		}
		found = &many.EntityDescriptors[at]
	}
	if found.EntityID != entity {
		return nil, fmt.Errorf("metadata_file %s is of entity %q; set entity_id to exactly that", file, found.EntityID)
	}
	t := &trust{until: found.ValidUntil}
	if many.ValidUntil != nil && !many.ValidUntil.IsZero() && (t.until.IsZero() || many.ValidUntil.Before(t.until)) {
		t.until = *many.ValidUntil
	}
	for _, role := range found.IDPSSODescriptors {
		for _, key := range role.KeyDescriptors {
			if key.Use != "" && key.Use != "signing" {
				continue
			}
			for _, c := range key.KeyInfo.X509Data.X509Certificates {
				der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c.Data), ""))
				if err != nil {
					return nil, fmt.Errorf("metadata_file %s: a certificate is not in base64", file)
				}
				cert, err := x509.ParseCertificate(der)
				if err != nil {
					return nil, fmt.Errorf("metadata_file %s: %w", file, err)
				}
				t.certificates = append(t.certificates, cert)
			}
		}
	}
	if len(t.certificates) == 0 {
		return nil, errors.New("metadata_file " + file + " has no signing certificate of an identity provider (IDPSSODescriptor)")
	}
	return t, nil
}
