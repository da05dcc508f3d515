package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports that no system gives out by itself: Linux takes those of outgoing
// connections, and of listeners that ask for any, from 32768 on. One of these is
// still free when it is used, a while after it was looked for.
const firstPort, lastPort = 20000, 32000

// given are the ports that were returned, which who asked may not have taken yet.
var given sync.Map

// FreeAddr returns a loopback address with a port that nobody has, and that it has
// not returned before.
func FreeAddr() (string, error) {
	var last error
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort)))
		if err != nil {
			last = err
			continue
		}
		addr := l.Addr().String()
		if _, before := given.LoadOrStore(addr, true); before {
			last = errors.Join(errors.New("all were given away"), l.Close())
			continue
		}
		return addr, l.Close()
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
