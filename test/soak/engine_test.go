//go:build linux

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	chdb "github.com/callgate/callgate/audit/engine"
)

// engine is the ClickHouse engine, which comes and goes at one address.
type engine struct {
	path, addr string
	log        *os.File
	proc       *chdb.Process
}

const password = "soak-only"

func newEngine(path string) (*engine, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	log, err := os.Create(path + ".log")
	if err != nil {
		return nil, err
	}
	return &engine{path: path, addr: l.Addr().String(), log: log}, nil
}

func (e *engine) start(ctx context.Context) (err error) {
	e.proc, err = chdb.Start(ctx, chdb.ProcessConfig{Executable: callgate, Stderr: e.log,
		Config: chdb.Config{Path: e.path, Addr: e.addr, Password: password, Log: slog.New(slog.DiscardHandler)}},
		func(line string) { fmt.Fprintln(os.Stderr, line) })
	return err
}

// stop ends the engine in order.
func (e *engine) stop() error {
	if e.proc == nil {
		return nil
	}
	err := e.proc.Stop()
	e.proc = nil
	return err
}

// kill ends it with kill -9.
func (e *engine) kill() error {
	if err := syscall.Kill(e.proc.PID(), syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the engine: %w", err)
	}
	<-e.proc.Done()
	e.proc = nil
	return nil
}

// ask runs a query in a database and returns its rows, cells as text. It goes
// by plain HTTP, past all of the product's own code.
func (e *engine) ask(ctx context.Context, database, sql string) ([][]string, error) {
	target := "http://" + e.addr + "/?" + url.Values{"database": {database}, "default_format": {"TabSeparatedRaw"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("default", password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	var rows [][]string
	for line := range strings.Lines(string(body)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}
