package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// What a parent hands to the process that it starts.
const (
	// PasswordEnv carries the password; a command line could be read by every
	// user of the machine.
	PasswordEnv = "CALLGATE_CLICKHOUSE_PASSWORD"
	// listenerEnv and readyEnv name inherited descriptors: the listening
	// socket, and a pipe that learns how the start went.
	listenerEnv = "CALLGATE_CLICKHOUSE_LISTENER_FD"
	readyEnv    = "CALLGATE_CLICKHOUSE_READY_FD"
	readyLine   = "ready"
)

// Main is the whole of `callgate clickhouse`: it finds or fetches the library
// if cfg names none, confines the process to the data directory (see confine;
// to do so it runs the program again with the same arguments), starts the
// engine, and serves until ctx ends. ctx should end on SIGTERM and SIGINT.
//
// An empty cfg.Password is taken from the environment, see PasswordEnv.
func Main(ctx context.Context, cfg Config, progress func(line string)) (err error) {
	ready, err := readyPipe()
	if err != nil {
		return err
	}
	if ready != nil {
		defer ready.Close()
		defer func() {
			if err != nil {
				fmt.Fprint(ready, err) // a parent that is gone needs no answer
			}
		}()
	}
	if cfg.Password == "" {
		cfg.Password = os.Getenv(PasswordEnv)
	}
	if cfg.Library == "" {
		if cfg.Library, err = Library(ctx, progress); err != nil {
			return err
		}
	}
	if err := cfg.complete(); err != nil {
		return fmt.Errorf("start the ClickHouse engine: %w", err)
	}
	// Before the restriction: it can only name what exists.
	if err := os.MkdirAll(cfg.Path, 0o700); err != nil {
		return fmt.Errorf("start the ClickHouse engine: make the data directory: %w", err)
	}
	restricted, err := confine(&cfg)
	if err != nil {
		return err
	}
	if !restricted {
		cfg.Log.Warn("this kernel has no Landlock: SQL in the embedded engine can read every file that this user can read")
	}
	if cfg.Listener == nil {
		if cfg.Listener, err = inheritedListener(); err != nil {
			return err
		}
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	if ready != nil {
		fmt.Fprintln(ready, readyLine)
		ready.Close()
	}
	return s.Run(ctx)
}

func descriptor(env, name string) (*os.File, error) {
	v := os.Getenv(env)
	if v == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q, not an inherited descriptor: unset it", env, v)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readyPipe() (*os.File, error) { return descriptor(readyEnv, "ready") }

// inheritedListener is the socket that a parent opened, or nil.
func inheritedListener() (net.Listener, error) {
	f, err := descriptor(listenerEnv, "listener")
	if f == nil || err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	return l, errors.Join(err, f.Close())
}
