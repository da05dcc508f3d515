package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// drain is how long running statements may go on after the end was asked for;
// then they are cancelled.
const drain = 5 * time.Second

// lastBytes is how long an answer that is complete may take to leave.
const lastBytes = 250 * time.Millisecond

// Server is the engine behind its HTTP interface, in this process. There can
// be one in a process at a time: the library holds one data directory.
type Server struct {
	cfg      Config
	listener net.Listener
	lock     *flock.Flock
	pool     *pool
	front    *front
}

// New takes the data directory, loads the library, starts the engine and
// listens. Run must follow, or Close.
//
// The library changes the process for good: it stays loaded, and brings its own
// threads. Start keeps it in a process of its own.
func New(cfg Config) (_ *Server, err error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("start the ClickHouse engine: %w", err)
	}
	s := &Server{cfg: cfg, listener: cfg.Listener}
	defer func() {
		if err != nil {
			s.release()
			err = fmt.Errorf("start the ClickHouse engine: %w", err)
		}
	}()
	if s.lock, err = take(cfg.Path); err != nil {
		return nil, err
	}
	if s.listener == nil {
		if s.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
			return nil, fmt.Errorf("listen: %w: choose another address", err)
		}
	}
	args, err := cfg.configure()
	if err != nil {
		return nil, err
	}
	open, err := loadEngine(cfg.Library)
	if err != nil {
		return nil, err
	}
	if s.pool, err = newPool(func() (session, error) { return open(args) }, cfg.Connections); err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Path, err)
	}
	about, err := s.pool.ask("SELECT version(), timezone()", "TabSeparatedRaw")
	if err != nil {
		return nil, fmt.Errorf("ask the engine's version: %w", err)
	}
	version, timezone, _ := strings.Cut(strings.TrimSpace(string(about)), "\t")
	s.front = &front{
		pool: s.pool, guard: newGuard(cfg.User, cfg.Password),
		version: version, timezone: timezone, name: "callgate",
		tmp: cfg.tmp(), log: cfg.Log,
	}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, lets running statements finish for five seconds,
// cancels the rest, and closes the engine. It returns nil if all that went as
// it should.
func (s *Server) Run(ctx context.Context) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           s.front,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    1 << 20,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(s.listener) }()
	s.cfg.Log.Info("ClickHouse engine is up", "addr", s.Addr(), "path", s.cfg.Path, "version", s.front.version, "max_memory", s.cfg.MaxMemory)

	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serve the ClickHouse engine: %w", err)
	case <-ctx.Done():
	}
	// Shutdown stops listening and closes what is idle; but it waits five
	// seconds for connections on which nothing was ever asked, so the requests
	// themselves are counted.
	quiet, stop := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.Shutdown(quiet) }()
	if !s.front.idle(quiet) {
		s.cfg.Log.Warn("statements still run: cancelling them")
	} else {
		select {
		case <-ended:
		case <-time.After(lastBytes):
		}
	}
	cancel()
	// Cancelled statements end within moments; their clients may not.
	server.Close()
	return errors.Join(err, s.Close())
}

// Close closes the engine of a server that does not run. It waits for running
// statements.
func (s *Server) Close() error {
	if s.pool != nil {
		s.pool.close()
		s.pool = nil
	}
	return s.release()
}

func (s *Server) release() error {
	var errs []error
	if s.listener != nil {
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
		s.lock = nil
	}
	return errors.Join(errs...)
}
