//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// hungUp reports whether the reader of a pipe has gone.
func hungUp(f *os.File) bool {
	poll := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
