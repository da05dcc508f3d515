package main

import (
	"errors"
	"net"
	"syscall"

	"github.com/callgate/callgate/config"
)

// The exit codes that scripts rely on.
const (
	exitOK          = 0 // fine
	exitNo          = 1 // what was asked about does not hold
	exitUsage       = 2 // wrong usage or configuration
	exitUnreachable = 3 // a dependency can't be reached
)

// codedError is an error with the exit code it stands for.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// withCode gives err an exit code; nil stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return codedError{err, code}
}

func exitCode(err error) int {
	var coded codedError
	var content config.Errors
	var dial *net.OpError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &content):
		return exitUsage
	case errors.As(err, &dial), errors.Is(err, syscall.ECONNREFUSED):
		return exitUnreachable
	default:
		return exitNo
	}
}
