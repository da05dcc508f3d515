package local

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// children are the processes that a process has started. Each of PostgreSQL's
// has a session of its own, so no group holds them all.
func children(pid int) []int {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, text := range strings.Fields(string(list)) {
		if n, err := strconv.Atoi(text); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// attributes keep a terminal's Ctrl-C from the server and end it with its parent,
// even one that is killed.
func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if root() {
		a.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return a
}
