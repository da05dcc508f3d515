package local

import "syscall"

// attributes ends Envoy with its parent, even one that is killed, and keeps a
// terminal's Ctrl-C from it: the parent stops it after its own work.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
