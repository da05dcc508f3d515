package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen opens a TCP listener for the setting of that name.
func listen(setting, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is taken by another process; stop it or set another address under %s: %w", setting, addr, setting, err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s may not be opened by this user; choose a port over 1023 or grant the right: %w", setting, addr, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", setting, err)
	}
	return l, nil
}
