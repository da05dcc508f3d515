//go:build !linux

package demo

import "syscall"

// childAttributes keeps a terminal's Ctrl-C from a child: it is stopped when
// its turn comes.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
