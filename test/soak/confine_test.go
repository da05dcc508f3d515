//go:build linux

package soak

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// confined is the first argument of a process that mounts a small file system
// and becomes the program that comes after.
const confined = "soak-confined"

// own puts a process into namespaces of its own, where it may mount without
// being root outside.
func own() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// confine runs in that process. args are where to mount, how many bytes, and
// the program with its arguments. It returns only where it fails.
func confine(args []string) error {
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to this process: %w", err)
	}
	if err := syscall.Mount("soak", args[0], "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		return fmt.Errorf("mount a small file system: %w", err)
	}
	if err := syscall.Exec(args[2], args[2:], os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", args[2], err)
	}
	return nil
}

// canConfine reports whether this machine lets us have such namespaces; some
// containers do not.
func canConfine(dir string) bool {
	s := &service{program: "/bin/true", spool: dir, small: 1 << 20, log: os.DevNull}
	if err := s.start(); err != nil {
		return false
	}
	<-s.done
	return s.err == nil
}
