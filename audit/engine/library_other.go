//go:build !linux

package engine

import (
	"fmt"
	"runtime"
)

// loadEngine refuses: the engine's library exists for Linux only.
func loadEngine(string) (func(args []string) (session, error), error) {
	return nil, fmt.Errorf("the embedded ClickHouse engine runs on Linux only, not on %s: use a ClickHouse server", runtime.GOOS)
}
