package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/engine"
	"github.com/callgate/callgate/call"
)

const (
	// shipCalls is how many calls a round ships, of up to three events each.
	shipCalls  = 60_000
	shipRounds = 2
	benchPass  = "bench-only"
	spoolBound = 64 << 30
)

// serveEngine is the embedded engine in a process of its own, as the engine
// package starts it.
func serveEngine(ctx context.Context, args []string) error {
	var cfg engine.Config
	flags := flag.NewFlagSet("clickhouse", flag.ContinueOnError)
	flags.StringVar(&cfg.Path, "path", "", "")
	flags.StringVar(&cfg.Addr, "addr", "", "")
	flags.StringVar(&cfg.User, "user", "", "")
	flags.Int64Var(&cfg.MaxMemory, "max-memory", 0, "")
	flags.IntVar(&cfg.Connections, "connections", 0, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return engine.Main(ctx, cfg, nil)
}

func startEngine(ctx context.Context, path string, memory int64) (*engine.Process, error) {
	return engine.Start(ctx, engine.ProcessConfig{Config: engine.Config{Path: path, Addr: "127.0.0.1:0", Password: benchPass, MaxMemory: memory,
		Log: slog.New(slog.DiscardHandler)}}, func(line string) { fmt.Println(line) })
}

func openTrail(addr, database string) (*clickhouse.DB, error) {
	return clickhouse.Open(clickhouse.Config{URL: "http://" + addr, Database: database, Password: func() (string, error) { return benchPass, nil }})
}

// fill appends n calls of t, decided evenly from begin on, to a spool in dir.
func fill(ctx context.Context, dir string, t *traffic, n int, begin time.Time, step time.Duration) (events uint64, err error) {
	s, err := openSpool(dir, spoolBound)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const together = 256 // calls under way at a time, which share syncs
	for done := 0; done < n; done += together {
		var legs [3][]call.Event
		for i := done; i < min(done+together, n); i++ {
			for nth, e := range t.next(begin.Add(time.Duration(i) * step)) {
				legs[nth] = append(legs[nth], e)
			}
		}
		for _, leg := range legs {
			errs := make([]error, len(leg))
			var wg sync.WaitGroup
			for i := range leg {
				wg.Go(func() { errs[i] = s.Append(ctx, leg[i]) })
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				return 0, err
			}
		}
	}
	return s.Status().Durable, nil
}

// shipped is what the process that ships says at its end.
type shipped struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"` // seconds, of that process
}

// serveShip ships the spool in the folder args[0] to the engine at args[1],
// database args[2], until all args[3] events are there, and writes a line of
// JSON.
func serveShip(ctx context.Context, args []string) error {
	debug.SetGCPercent(400) // as serve does
	var want uint64
	if len(args) != 4 {
		return errors.New("ship: folder, address, database and number of events, please")
	}
	if _, err := fmt.Sscan(args[3], &want); err != nil {
		return fmt.Errorf("ship: number of events: %w", err)
	}
	s, err := openSpool(args[0], spoolBound)
	if err != nil {
		return err
	}
	defer s.Close()
	db, err := openTrail(args[1], args[2])
	if err != nil {
		return err
	}
	defer db.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	shipper := clickhouse.NewShipper(clickhouse.ShipperConfig{Spool: s, DB: db, Log: log, Metrics: clickhouse.NewMetrics(prometheus.NewRegistry())})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if p := os.Getenv("PROF"); p != "" {
		f, _ := os.Create(p)
		pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	began, before := time.Now(), ownCPU()
	ended := make(chan error, 1)
	go func() { ended <- shipper.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			return errors.Join(errors.New("shipping ended early"), err)
		case <-time.After(5 * time.Millisecond):
		}
		if st := shipper.Status(); st.Stopped != "" {
			return errors.New(st.Stopped)
		} else if st.Shipped >= want && st.Unsettled == 0 {
			break
		}
	}
	out := shipped{Seconds: time.Since(began).Seconds(), CPU: (ownCPU() - before).Seconds()}
	cancel()
	return errors.Join(<-ended, json.NewEncoder(os.Stdout).Encode(out))
}

// ownCPU is the CPU time of this process so far.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("bench: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ship runs serveShip in a process of its own, which has one core.
func ship(ctx context.Context, dir, addr, database string, events uint64) (out shipped, err error) {
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	cmd := exec.CommandContext(ctx, self, "ship", dir, addr, database, fmt.Sprint(events))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return out, err
	}
	if err := cmd.Start(); err != nil {
		return out, err
	}
	line := bufio.NewScanner(stdout)
	for line.Scan() {
		if err := json.Unmarshal(line.Bytes(), &out); err != nil {
			return out, errors.Join(fmt.Errorf("read what the shipping process says: %w", err), cmd.Wait())
		}
	}
	if err := cmd.Wait(); err != nil {
		return out, fmt.Errorf("ship: %w", err)
	}
	if out.Seconds == 0 {
		return out, errors.New("ship: the process said nothing")
	}
	return out, nil
}

// benchShip measures how fast one core takes a backlog to ClickHouse.
func benchShip(ctx context.Context) (_ []row, err error) {
	dir, err := os.MkdirTemp(os.Getenv("CALLGATE_BENCH_DIR"), "callgate-bench-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	ch, err := startEngine(ctx, filepath.Join(dir, "data"), 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ch.Stop()) }()
	var calls, rows, cpu, server []float64
	for round := range shipRounds {
		spool := filepath.Join(dir, "spool")
		begin := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
		events, err := fill(ctx, spool, newTraffic(uint64(round)), shipCalls, begin, time.Millisecond)
		if err != nil {
			return nil, err
		}
		before, err := cpuTime([]int{ch.PID()})
		if err != nil {
			return nil, err
		}
		got, err := ship(ctx, spool, ch.Addr(), fmt.Sprintf("ship%d", round), events)
		if err != nil {
			return nil, err
		}
		after, err := cpuTime([]int{ch.PID()})
		if err != nil {
			return nil, err
		}
		if err := os.RemoveAll(spool); err != nil {
			return nil, err
		}
		calls = append(calls, shipCalls/got.Seconds)
		rows = append(rows, float64(shipCalls+events)/got.Seconds)
		cpu = append(cpu, got.CPU*1e6/shipCalls)
		server = append(server, (after-before).Seconds()*1e6/shipCalls)
		fmt.Printf("round %d  ship %8.0f calls/s  %8.0f rows/s  CPU %5.1fµs/call  engine's %5.1fµs/call\n", round+1, calls[round], rows[round], cpu[round], server[round])
	}
	return []row{
		newRow("ship_rows_s", "rows/s (calls and events), one core", "", rows),
		newRow("ship_calls_s", "calls/s, one core", "", calls),
		newRow("ship_cpu", "us/call", "", cpu),
		newRow("ship_engine_cpu", "us/call", "", server),
	}, nil
}
