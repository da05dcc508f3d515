//go:build !linux

package local

import "syscall"

// attributes keeps a terminal's Ctrl-C from Envoy: the parent stops it after
// its own work.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
