package demo

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports that no system gives out by itself: Linux takes those of outgoing
// connections, and of listeners that ask for any, from 32768 on. One of these is
// still free when it is used, a while after it was looked for.
const firstPort, lastPort = 20000, 32000

// FreeAddr returns a loopback address with a port that nobody has.
func FreeAddr() (string, error) {
	var last error
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort)))
		if err != nil {
			last = err
			continue
		}
		return l.Addr().String(), l.Close()
	}
	return "", fmt.Errorf("find a free port between %d and %d: %w", firstPort, lastPort, last)
}

// freeAddr returns the loopback address with that port, or with another one where
// it is taken or 0.
func freeAddr(port int) (string, error) {
	if port == 0 {
		return FreeAddr()
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return FreeAddr()
	}
	return l.Addr().String(), l.Close()
}
