//go:build linux

package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// service is a `callgate serve` that is started and ended at will.
type service struct {
	program string
	args    []string
	env     []string
	metrics string // address of its metrics
	log     string // file of its log, of all its processes
	// spool is where a small file system of so many bytes is mounted for it.
	spool string
	small int64

	proc *os.Process
	done chan struct{}
	err  error // valid once done is closed
}

// start runs the process and returns at once.
func (s *service) start() error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.program, s.args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if s.small > 0 {
		cmd = exec.Command(os.Args[0], append([]string{confined, s.spool, strconv.FormatInt(s.small, 10), s.program}, s.args...)...)
		cmd.SysProcAttr = own()
	}
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	started := make(chan error)
	done := make(chan struct{})
	s.done = done
	go func() {
		// Linux ties the signal at a parent's death to the thread that forked.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		s.proc = cmd.Process
		started <- nil
		s.err = cmd.Wait()
		close(done)
	}()
	return <-started
}

// ready waits until it takes calls.
func (s *service) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if _, err := get(ctx, "http://"+s.metrics+"/readyz"); err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("callgate serve ended: %w; its log:\n%s", errors.Join(s.err, errors.New("it should not")), s.tail())
		case <-ctx.Done():
			return fmt.Errorf("callgate serve is not ready: %w; its log:\n%s", ctx.Err(), s.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// kill ends it with kill -9.
func (s *service) kill() error {
	if err := s.proc.Kill(); err != nil {
		return fmt.Errorf("kill callgate serve: %w", err)
	}
	<-s.done
	return nil
}

// term ends it with SIGTERM and returns how it ended.
func (s *service) term(ctx context.Context) error {
	if err := s.proc.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop callgate serve: %w", err)
	}
	select {
	case <-s.done:
		if s.err != nil {
			return fmt.Errorf("callgate serve, at SIGTERM: %w; its log:\n%s", s.err, s.tail())
		}
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("callgate serve did not stop at SIGTERM"), s.kill())
	}
}

// again starts it and waits until it takes calls.
func (s *service) again(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	return s.ready(ctx)
}

// text is its log from a place on.
func (s *service) text(from int) string {
	data, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(data[min(from, len(data)):])
}

func (s *service) tail() string {
	text := s.text(0)
	return text[max(0, len(text)-2000):]
}

// number reads one of its metrics.
func (s *service) number(ctx context.Context, name string) (float64, error) {
	return metric(ctx, s.metrics, name)
}

func metric(ctx context.Context, addr, name string) (float64, error) {
	body, err := get(ctx, "http://"+addr+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(body) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return strconv.ParseFloat(strings.TrimSpace(string(rest)), 64)
		}
	}
	return 0, fmt.Errorf("%s tells no %s", addr, name)
}

func get(ctx context.Context, target string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}
