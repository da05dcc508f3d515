package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confinedEnv tells the process that it has been confined.
const confinedEnv = "CALLGATE_CLICKHOUSE_CONFINED"

// confine takes from this process, before the engine is in it, every file that
// is not the engine's business, and the ability to call out over TCP. The
// engine's SQL can read files (the function «file» asks for no grant in the
// embedded build) and the process belongs to the user whose keys and
// configuration lie beside it.
//
// Linux's Landlock restricts threads, and the others of a Go process can't be
// reached, so one thread is restricted and then becomes the whole process by
// executing the same program again with the same arguments. confine returns
// only in that second run, or if it could not restrict anything: restricted is
// false where the kernel has no Landlock.
func confine(cfg *Config) (restricted bool, err error) {
	if os.Getenv(confinedEnv) != "" {
		return true, nil
	}
	runtime.LockOSThread() // for good: the thread is spoilt, or the process is gone

	abi, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return false, nil
	}
	executable, err := os.Executable()
	if err != nil {
		return false, fmt.Errorf("find this program: %w", err)
	}

	const reading = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	const onFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE
	handled := uint64(1<<13 - 1)
	if abi >= 2 {
		handled |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		handled |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	// The record grew with the versions; an older kernel wants the shorter one.
	attr := struct{ fs, net, scoped uint64 }{fs: handled}
	size := unsafe.Sizeof(attr.fs)
	if abi >= 4 {
		attr.net = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP // and no rule that allows any
		size += unsafe.Sizeof(attr.net)
	}
	ruleset, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return false, fmt.Errorf("confine the engine: create rules: %w", errno)
	}
	defer syscall.Close(int(ruleset))

	allow := func(path string, access uint64) error {
		fd, err := syscall.Open(path, unix.O_PATH|syscall.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("confine the engine: open %s: %w", path, err)
		}
		defer syscall.Close(fd)
		var st syscall.Stat_t
		if err := syscall.Fstat(fd, &st); err != nil {
			return fmt.Errorf("confine the engine: look at %s: %w", path, err)
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			access &= onFiles
		}
		// The kernel's record is packed: 8 bytes of rights, 4 of descriptor.
		var rule [12]byte
		*(*uint64)(unsafe.Pointer(&rule[0])) = access & handled
		*(*int32)(unsafe.Pointer(&rule[8])) = int32(fd)
		_, _, errno := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("confine the engine: allow %s: %w", path, errno)
		}
		return nil
	}
	for _, path := range []string{
		executable, filepath.Dir(cfg.Library),
		// The system's libraries and time zones, and what the C library reads.
		"/usr", "/lib", "/lib64", "/lib32", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone",
		"/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/resolv.conf",
		// Memory, processors and limits.
		"/proc", "/sys",
	} {
		if err := allow(path, reading); err != nil {
			return false, err
		}
	}
	for _, path := range []string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"} {
		if err := allow(path, onFiles); err != nil {
			return false, err
		}
	}
	if err := allow(cfg.Path, handled&^unix.LANDLOCK_ACCESS_FS_EXECUTE); err != nil {
		return false, err
	}
	// The wish to end with one's parent belongs to a thread as well: to the
	// first one, which still has it until this one takes the process over.
	if os.Getenv(readyEnv) != "" {
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
			return false, fmt.Errorf("confine the engine: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return false, fmt.Errorf("confine the engine: %w", err)
	}
	if _, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return false, fmt.Errorf("confine the engine: %w", errno)
	}
	env := append(os.Environ(), confinedEnv+"=1", libraryPart.Env+"="+cfg.Library)
	return false, fmt.Errorf("confine the engine: run %s again: %w", executable, syscall.Exec(executable, os.Args, env))
}
