package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Load reads the configuration in file, lays the environment and the given
// flags over it, fills the defaults and checks the whole. A flag named like a
// setting with dashes for dots and underscores (--listen-grpc) sets it.
//
// The error is an [Errors] where the content is at fault.
func Load(file string, flags *pflag.FlagSet) (*Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w; name the file with -c, or run 'callgate demo' for a working example", err)
	}
	var p problems
	doc := parse(file, data, reflect.TypeFor[Config](), &p)
	if err := p.err(); err != nil {
		return nil, err
	}
	c, err := settings(file, doc, flags, &p)
	if err != nil {
		return nil, err
	}
	c.Policy = readPolicy(doc, beside, &p)
	if c.PoliciesDir != "" {
		c.Policy.append(readDir(c.PoliciesDir, &p))
	}
	c.Policy.finish(&p)
	c.unambiguous(c.Policy, &p)
	return c, p.err()
}

// LoadSettings is [Load] without the policy, which may be at fault.
func LoadSettings(file string, flags *pflag.FlagSet) (*Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var p problems
	doc := parse(file, data, reflect.TypeFor[Config](), &p)
	if err := p.err(); err != nil {
		return nil, err
	}
	c, err := settings(file, doc, flags, &p)
	if err != nil {
		return nil, err
	}
	return c, p.err()
}

func settings(file string, doc document, flags *pflag.FlagSet, p *problems) (*Config, error) {
	c, err := overlay(doc, flags)
	if err != nil {
		return nil, err
	}
	c.paths(filepath.Dir(file))
	c.defaults()
	c.validate(doc, p)
	return c, nil
}

// overlay decodes the settings that are not policy through viper, which lays
// the environment and the flags over them.
func overlay(doc document, flags *pflag.FlagSet) (*Config, error) {
	v := viper.New()
	if doc.root != nil {
		var settings map[string]any
		if err := doc.root.Decode(&settings); err != nil {
			return nil, fmt.Errorf("read %s: %w", doc.file, err)
		}
		// Policy is decoded apart: viper folds the case of keys.
		delete(settings, "connections")
		delete(settings, "rules")
		delete(settings, "grants")
		delete(settings, "detectors")
		if err := v.MergeConfigMap(settings); err != nil {
			return nil, fmt.Errorf("read %s: %w", doc.file, err)
		}
	}
	for _, path := range leaves("", reflect.TypeFor[Config]()) {
		name := "CALLGATE_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
		if err := v.BindEnv(path, name); err != nil {
			return nil, fmt.Errorf("bind %s: %w", name, err)
		}
		if flags == nil {
			continue
		}
		if f := flags.Lookup(strings.NewReplacer(".", "-", "_", "-").Replace(path)); f != nil {
			if err := v.BindPFlag(path, f); err != nil {
				return nil, fmt.Errorf("bind --%s: %w", f.Name, err)
			}
		}
	}
	var c Config
	err := v.Unmarshal(&c, func(d *mapstructure.DecoderConfig) {
		d.TagName = "yaml"
		d.Squash = true
		d.DecodeHook = mapstructure.ComposeDecodeHookFunc(
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.StringToSliceHookFunc(","),
			decodeBytes,
		)
	})
	if err != nil {
		return nil, fmt.Errorf("read settings from %s, CALLGATE_* and flags: %w", doc.file, err)
	}
	return &c, nil
}

func decodeBytes(from, to reflect.Type, v any) (any, error) {
	if to != bytesType || from.Kind() != reflect.String {
		return v, nil
	}
	return ParseBytes(v.(string))
}

// leaves lists the dotted paths of all settings that the environment can give:
// all but lists of structs.
func leaves(path string, t reflect.Type) []string {
	var out []string
	for name, field := range fields(t) {
		switch {
		case field.Kind() == reflect.Struct:
			out = append(out, leaves(join(path, name), field)...)
		case field.Kind() == reflect.Slice && field.Elem().Kind() != reflect.String:
		default:
			out = append(out, join(path, name))
		}
	}
	return out
}

// paths makes every file name absolute, relative ones from the file's folder.
func (c *Config) paths(base string) {
	if c.StateDir == "" {
		c.StateDir = ".callgate"
	}
	from := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
		if *p != "" {
			if abs, err := filepath.Abs(*p); err == nil {
				*p = abs
			}
		}
	}
	if c.Approvals.File == "" {
		c.Approvals.File = filepath.Join(c.StateDir, "approvals.db")
	}
	if c.Audit.Spool.Dir == "" {
		c.Audit.Spool.Dir = filepath.Join(c.StateDir, "spool")
	}
	if c.Control.Store == "" {
		c.Control.Store = filepath.Join(c.StateDir, "control.db")
	}
	if c.Audit.Ledger.KeysFile == "" {
		c.Audit.Ledger.KeysFile = filepath.Join(c.StateDir, "ledger.keys")
	}
	if c.Identity.Exchange.Store == "" && c.Approvals.Postgres.URL == "" {
		c.Identity.Exchange.Store = filepath.Join(c.StateDir, "tokens.db")
	}
	if !c.Audit.Ledger.remote() {
		from(&c.Audit.Ledger.Witness)
	}
	for _, p := range []*string{&c.Audit.Ledger.KeysFile, &c.Audit.Ledger.WitnessCAFile, &c.StateDir, &c.PoliciesDir, &c.Control.Store, &c.Control.TLS.CertFile, &c.Control.TLS.KeyFile, &c.Control.TLS.CAFile, &c.Services.TLS.CertFile, &c.Services.TLS.KeyFile, &c.Services.TLS.ClientCAFile, &c.Approvals.File, &c.Approvals.Postgres.CAFile, &c.Approvals.Postgres.CertFile, &c.Approvals.Postgres.KeyFile, &c.Approvals.Postgres.Password.File, &c.Audit.Spool.Dir, &c.Envoy.TLS.CertFile, &c.Envoy.TLS.KeyFile, &c.Envoy.TLS.ClientCAFile, &c.Identity.MTLS.CAFile, &c.Identity.Exchange.Store, &c.Identity.Exchange.CAFile, &c.Audit.ClickHouse.CAFile, &c.Audit.ClickHouse.Password.File, &c.Audit.HashKey.File, &c.Audit.Unseal.ReleaseKey.File} {
		from(p)
	}
	c.consolePaths(from)
	for i := range c.Identity.SAML {
		from(&c.Identity.SAML[i].MetadataFile)
		from(&c.Identity.SAML[i].CertificateFile)
	}
	for i := range c.Identity.Issuers {
		from(&c.Identity.Issuers[i].CAFile)
		from(&c.Identity.Issuers[i].Introspection.Secret.File)
	}
}

func (c *Config) defaults() {
	set(&c.Listen.GRPC, "127.0.0.1:9191")
	set(&c.Listen.XDS, "127.0.0.1:18000")
	set(&c.Listen.Console, "127.0.0.1:8080")
	set(&c.Listen.Metrics, "127.0.0.1:9090")
	set(&c.Control.Wait, 10*time.Second)
	set(&c.Log.Level, "info")
	set(&c.Log.Format, "json")
	set(&c.Envoy.Listen, "127.0.0.1:10000")
	set(&c.Envoy.Services, c.Listen.GRPC)
	set(&c.Envoy.DecideTimeout, 2*time.Second)
	set(&c.Masking.Memory, 512<<20)
	set(&c.Masking.Timeout, 30*time.Second)
	set(&c.Identity.ClockSkew, time.Minute)
	set(&c.Audit.Unseal.Wait, 24*time.Hour)
	set(&c.Identity.Unreachable, "fail")
	set(&c.Audit.Spool.MaxBytes, 10<<30)
	set(&c.Audit.Ledger.Interval, 10*time.Second)
	set(&c.Audit.ClickHouse.Database, "callgate")
	set(&c.Audit.ClickHouse.Username, "default")
	set(&c.Audit.ClickHouse.SettleAfter, time.Minute)
	if c.Node == "" {
		// A host without a name is still a replica; the name only labels rows.
		if name, err := os.Hostname(); err == nil {
			c.Node = name
		} else {
			c.Node = "callgate"
		}
	}
	c.identityDefaults()
	c.consoleDefaults()
}

// remote tells whether the witness is a URL.
func (l Ledger) remote() bool {
	return strings.HasPrefix(l.Witness, "http://") || strings.HasPrefix(l.Witness, "https://")
}

// set gives a setting its default where it has none.
func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// ErrEmptySecret says that a secret is set nowhere.
var ErrEmptySecret = errors.New("secret is empty")

// Read returns the secret's present value, or "" where none is configured.
func (s Secret) Read() (string, error) {
	switch {
	case s.Env != "":
		v := os.Getenv(s.Env)
		if v == "" {
			return "", fmt.Errorf("environment variable %s: %w", s.Env, ErrEmptySecret)
		}
		return v, nil
	case s.File != "":
		data, err := os.ReadFile(s.File)
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		v := strings.TrimSpace(string(data))
		if v == "" {
			return "", fmt.Errorf("file %s: %w", s.File, ErrEmptySecret)
		}
		return v, nil
	}
	return "", nil
}
