package demo

import "syscall"

// childAttributes ends a child with this process, even one that is killed, and
// keeps a terminal's Ctrl-C from it: it is stopped when its turn comes.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
