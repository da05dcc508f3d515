package clickhouse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Config says which ClickHouse holds the trail.
type Config struct {
	// URL is http(s)://host:port, or clickhouse(s)://host:port for the native
	// protocol. Several hosts, separated by commas, are tried in turn.
	URL      string
	Database string // default "callgate"
	Username string // default "default"
	// Password is asked for at each new connection, so that it may rotate;
	// nil means none.
	Password func() (string, error)
	CAFile   string // PEM; empty means the system's certificates
	Cluster  Cluster

	dialTimeout time.Duration // for one host; 0 means dialTimeout
}

const (
	defaultDatabase = "callgate"
	defaultUser     = "default"
	dialTimeout     = 5 * time.Second
	// connLifetime bounds how long a rotated password is still in use.
	connLifetime = 10 * time.Minute
)

// DB is a ClickHouse. It is safe for concurrent use, and connects when it is
// first asked something.
type DB struct {
	cfg  Config
	conn driver.Conn
}

// Open checks cfg and prepares connections. It contacts nobody.
func Open(cfg Config) (*DB, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	d := &DB{cfg: cfg}
	var err error
	d.conn, err = d.connect(cfg.Database)
	return d, err
}

// complete checks what does not concern connections, and fills in the defaults.
func (cfg *Config) complete() error {
	if cfg.Database == "" {
		cfg.Database = defaultDatabase
	}
	if cfg.Username == "" {
		cfg.Username = defaultUser
	}
	if !identifier.MatchString(cfg.Database) {
		return fmt.Errorf("database %q: use letters, digits and underscores", cfg.Database)
	}
	return cfg.Cluster.complete()
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// connect prepares connections whose unqualified names mean those in database.
func (d *DB) connect(database string) (driver.Conn, error) {
	opt, err := d.cfg.options()
	if err != nil {
		return nil, err
	}
	opt.Auth.Database = database
	conn, err := ch.Open(opt)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse %s: %w", d.cfg.URL, err)
	}
	return conn, nil
}

func (cfg Config) options() (*ch.Options, error) {
	u, hosts, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	opt := &ch.Options{
		Addr: hosts, Auth: ch.Auth{Username: cfg.Username}, Settings: cfg.settings(),
		Compression: &ch.Compression{Method: ch.CompressionLZ4},
		ReadTimeout: 5 * time.Minute, ConnMaxLifetime: connLifetime,
		MaxOpenConns: 8, MaxIdleConns: 4, ConnOpenStrategy: ch.ConnOpenInOrder,
		ClientInfo: ch.ClientInfo{Products: []struct{ Name, Version string }{{Name: "callgate"}}},
	}
	secure, port := false, ""
	switch u.Scheme {
	case "http":
		opt.Protocol, port = ch.HTTP, "8123"
	case "https":
		opt.Protocol, port, secure = ch.HTTP, "8443", true
	case "clickhouse":
		opt.Protocol, port = ch.Native, "9000"
	case "clickhouses":
		opt.Protocol, port, secure = ch.Native, "9440", true
	default:
		return nil, fmt.Errorf("clickhouse url %q: write http(s)://host:port or clickhouse(s)://host:port", cfg.URL)
	}
	for i, a := range opt.Addr {
		if a == "" {
			return nil, fmt.Errorf("clickhouse url %q names no host", cfg.URL)
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			opt.Addr[i] = net.JoinHostPort(strings.Trim(a, "[]"), port)
		}
	}
	if !slices.ContainsFunc(opt.Addr, remote) {
		// On one machine it costs both sides more than it spares.
		opt.Compression = &ch.Compression{Method: ch.CompressionNone}
	}
	opt.HttpUrlPath = u.Path
	if secure {
		opt.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if cfg.CAFile != "" {
			pem, err := os.ReadFile(cfg.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read clickhouse.ca_file: %w", err)
			}
			opt.TLS.RootCAs = x509.NewCertPool()
			if !opt.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("clickhouse.ca_file %s holds no PEM certificate", cfg.CAFile)
			}
		}
	}
	timeout := cfg.dialTimeout
	if timeout == 0 {
		timeout = dialTimeout
	}
	// This one also bounds how long a statement waits for a connection.
	opt.DialTimeout = timeout*time.Duration(len(opt.Addr)) + timeout
	opt.DialStrategy = (&dialer{password: cfg.Password, timeout: timeout, failed: make(map[string]time.Time)}).dial
	return opt, nil
}

// remote reports whether addr, host:port, may be another machine's.
func remote(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err != nil || host != "localhost" && !net.ParseIP(host).IsLoopback()
}

// parseURL takes apart a URL of one or several hosts, which url.Parse alone
// takes for one with a strange port. An error shows no user or password.
func parseURL(text string) (*url.URL, []string, error) {
	bad := errors.New("clickhouse url can't be parsed: write http(s)://host:port or clickhouse(s)://host:port, several hosts separated by commas")
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, nil, bad
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	var first *url.URL
	var hosts []string
	for _, host := range strings.Split(rest[:end], ",") {
		u, err := url.Parse(scheme + "://" + host + rest[end:])
		if err != nil {
			return nil, nil, bad
		}
		if u.User != nil {
			return nil, nil, fmt.Errorf("clickhouse url %s holds a user or password: set username and password instead", u.Redacted())
		}
		if first == nil {
			first = u
		}
		hosts = append(hosts, u.Host)
	}
	return first, hosts, nil
}

// Ping tells whether ClickHouse answers, also where it has no schema yet.
func (d *DB) Ping(ctx context.Context) error {
	var one uint8
	err := d.conn.QueryRow(ctx, "SELECT 1").Scan(&one)
	var e *ch.Exception
	if errors.As(err, &e) && e.Code == codeUnknownDatabase {
		return nil // it is yet to be made
	}
	if err != nil {
		return fmt.Errorf("reach ClickHouse at %s: %w", d.cfg.URL, explain(err))
	}
	return nil
}

// Close closes all connections.
func (d *DB) Close() error { return d.conn.Close() }
