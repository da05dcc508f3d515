//go:build unix && !linux

package local

import "syscall"

// children are not known here; they end soon after their parent.
func children(int) []int { return nil }

func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if root() {
		a.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return a
}
