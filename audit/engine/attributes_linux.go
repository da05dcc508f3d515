package engine

import "syscall"

// childAttributes ends the child with its parent, even one that is killed, and
// keeps a terminal's Ctrl-C from it: the parent stops it when its own work is
// done.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
