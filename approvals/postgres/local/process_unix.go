//go:build unix

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// nobody is whom root runs the server as: PostgreSQL refuses to run as root.
const nobody = 65534

func root() bool { return os.Geteuid() == 0 }

// give hands a file or folder to the server's user.
func give(path string) error {
	if !root() {
		return nil
	}
	return os.Chown(path, nobody, nobody)
}

// prepare makes the folder and sees to it that the server's user can reach it
// and the binary.
func (s *Server) prepare() error {
	s.binary = s.cfg.Binary
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if !root() {
		return nil
	}
	if err := give(s.cfg.Dir); err != nil {
		return err
	}
	if at := shut(s.cfg.Dir); at != "" {
		return fmt.Errorf("%s is root's alone, and the server runs as another user; choose a folder elsewhere", at)
	}
	if shut(filepath.Dir(s.binary)) == "" {
		return nil
	}
	// It lies in root's own cache. Linked or copied, its files are in reach.
	from, all := strings.CutSuffix(s.binary, "/"+pinned)
	if !all {
		from = filepath.Dir(filepath.Dir(s.binary))
	}
	to := filepath.Join(s.cfg.Dir, "install")
	if err := reproduce(from, to); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	s.binary = to + strings.TrimPrefix(s.binary, from)
	return nil
}

// shut returns the first folder above path (not path itself) that only its owner
// may pass; "" where there is none.
func shut(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// reproduce makes a folder's files appear in another place.
func reproduce(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if d.IsDir() {
			if d.Name() == "include" {
				return filepath.SkipDir
			}
			return os.MkdirAll(target, 0o755)
		}
		if os.Link(path, target) == nil {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, info.Mode().Perm())
	})
}

// stopBound is how long the server may take to end before it is killed.
const stopBound = 10 * time.Second

// Stop ends the server in order, cutting its clients off.
func (s *Server) Stop() error {
	if s.ended() {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(stopBound):
		return errors.Join(errors.New("PostgreSQL did not stop in time"), s.Kill())
	}
}

// Kill ends the server and all of its processes with kill -9, in whatever they
// are doing.
func (s *Server) Kill() error {
	if s.ended() {
		return nil
	}
	err := s.signal(syscall.SIGKILL)
	<-s.done
	return err
}

// Freeze makes the server stand still, as a machine does that hangs, until Thaw.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

// signal reaches every process of the server, the one that starts others first.
func (s *Server) signal(sig syscall.Signal) error {
	pid := s.cmd.Process.Pid
	for _, p := range append([]int{pid}, children(pid)...) {
		if err := syscall.Kill(p, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send PostgreSQL %v: %w", sig, err)
		}
	}
	return nil
}

func (s *Server) ended() bool {
	if s.cmd == nil {
		return true
	}
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
