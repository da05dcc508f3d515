package issuer

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// stopTime bounds how long a stop waits for requests under way.
const stopTime = 2 * time.Second

// maxRequest bounds a request's body, in bytes. Nothing that a client sends
// here is longer than a few tokens.
const maxRequest = 256 << 10

// Config is what an Issuer needs; the zero value serves the demo's cast over
// plain HTTP on a free port of 127.0.0.1.
type Config struct {
	// Listener is where to serve, or else Addr is where to listen; without
	// both, a free port of 127.0.0.1.
	Listener net.Listener
	Addr     string
	// TLS, where given, makes the issuer's URL an https one.
	TLS *tls.Config
	// Audience is what access tokens are for. Default: "callgate".
	Audience []string
	// Users and Clients; default: [DemoUsers] and [DemoClients].
	Users   []User
	Clients []Client
	Log     *slog.Logger
}

// Issuer is an OpenID Connect provider.
type Issuer struct {
	url      string
	addr     string
	tls      *tls.Config
	audience []string
	keys     *keys
	handler  http.Handler
	log      *slog.Logger

	mu      sync.Mutex
	next    net.Listener // what the next Run serves; nil: it listens on addr again
	running bool
}

// New makes the first signing key and begins to listen, so that URL is known;
// Run serves.
func New(c Config) (_ *Issuer, err error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if len(c.Audience) == 0 {
		c.Audience = []string{"callgate"}
	}
	if c.Users == nil {
		c.Users = DemoUsers()
	}
	if c.Clients == nil {
		c.Clients = DemoClients()
	}
	who, err := newRegistry(c.Users, c.Clients)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	k := &keys{}
	if _, err := k.rotate(); err != nil {
		return nil, err
	}
	ln := c.Listener
	if ln == nil {
		if ln, err = net.Listen("tcp", cmp.Or(c.Addr, "127.0.0.1:0")); err != nil {
			return nil, fmt.Errorf("issuer: %w; is another process on that port?", err)
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, ln.Close())
			}
		}()
	}
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	i := &Issuer{
		url: scheme + "://" + ln.Addr().String(), addr: ln.Addr().String(), next: ln,
		tls: c.TLS, audience: c.Audience, keys: k, log: c.Log,
	}
	s := newStorage(who, c.Audience, k)
	conf := &op.Config{
		CodeMethodS256: true, GrantTypeRefreshToken: true,
		SupportedScopes: []string{"openid", "profile", "email", "offline_access"},
		SupportedClaims: []string{"iss", "sub", "aud", "exp", "iat", "jti", "groups", "email", "kind", "act"},
	}
	if _, err := rand.Read(conf.CryptoKey[:]); err != nil { // encrypts the codes
		return nil, fmt.Errorf("issuer: %w", err)
	}
	options := []op.Option{op.WithCORSOptions(nil)}
	if c.TLS == nil {
		options = append(options, op.WithAllowInsecure())
	}
	provider, err := op.NewProvider(conf, s, op.StaticIssuer(i.url), options...)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", i.url, err)
	}
	withIssuer := op.NewIssuerInterceptor(provider.IssuerFromRequest)
	mux := http.NewServeMux()
	mux.Handle(loginPath, withIssuer.Handler(login{storage: s, callback: op.AuthCallbackURL(provider), log: c.Log}))
	mux.Handle("/", provider)
	i.handler = http.MaxBytesHandler(mux, maxRequest)
	return i, nil
}

// URL is the issuer, as discovery and the tokens' "iss" name it.
func (i *Issuer) URL() string { return i.url }

// Rotate makes a new signing key and returns its id; tokens signed with the
// earlier ones stay good, and the JWKS keeps those keys.
func (i *Issuer) Rotate() (kid string, err error) { return i.keys.rotate() }

// Run serves until ctx ends. It can be run again after that, on the same
// address, with the same keys and tokens: an outage and its end.
func (i *Issuer) Run(ctx context.Context) error {
	ln, err := i.start()
	if err != nil {
		return err
	}
	defer i.stopped()
	if i.tls != nil {
		ln = tls.NewListener(ln, i.tls)
	}
	srv := &http.Server{
		Handler: i.handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(i.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("issuer %s: %w", i.url, err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		// What is still under way after stopTime is cut off.
		if err := srv.Close(); err != nil {
			return fmt.Errorf("stop issuer %s: %w", i.url, err)
		}
	}
	<-served
	return nil
}

func (i *Issuer) start() (net.Listener, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running {
		return nil, fmt.Errorf("issuer %s is running already", i.url)
	}
	ln := i.next
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", i.addr); err != nil {
			return nil, fmt.Errorf("issuer %s: listen again: %w", i.url, err)
		}
	}
	i.next, i.running = nil, true
	return ln, nil
}

func (i *Issuer) stopped() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.running = false
}
