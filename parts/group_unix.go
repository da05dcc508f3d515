//go:build unix

package parts

import (
	"os/exec"
	"syscall"
)

// inOwnGroup makes cancellation end the client and whatever it started: npm
// and pip both work through children.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
