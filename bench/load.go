package main

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// inFlight is the load: so many calls under way at any time, a closed loop.
const inFlight = 64

// sample is what one run of one subject showed.
type sample struct {
	perSecond  float64
	p50, p99   time.Duration
	cpuPerCall time.Duration // of the server processes
}

// load sends calls for the given time and measures them, after a warm-up that
// does not count. do makes the nth call over one of the workers' connections.
func load(ctx context.Context, warm, length time.Duration, procs []int, do func(worker int, n int64) error) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, counted atomic.Int64
	var measuring atomic.Bool
	took := make([][]time.Duration, inFlight)
	var wg sync.WaitGroup
	for w := range inFlight {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if err := do(w, next.Add(1)-1); err != nil {
					cancel(fmt.Errorf("call: %w", err))
					return
				}
				if measuring.Load() {
					took[w] = append(took[w], time.Since(start))
					counted.Add(1)
				}
			}
		})
	}
	pause(ctx, warm)
	before, err := cpuTime(procs)
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	measuring.Store(true)
	pause(ctx, length)
	measuring.Store(false)
	elapsed, calls := time.Since(start), counted.Load()
	after, err := cpuTime(procs)
	if err != nil {
		return sample{}, err
	}
	cause := context.Cause(ctx)
	cancel(nil)
	wg.Wait()
	if cause != nil {
		return sample{}, cause
	}
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	if len(all) == 0 {
		return sample{}, fmt.Errorf("no call ended within %s", length)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return sample{
		perSecond:  float64(calls) / elapsed.Seconds(),
		p50:        all[len(all)/2],
		p99:        all[len(all)*99/100],
		cpuPerCall: (after - before) / time.Duration(calls),
	}, nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// subject is something that is measured, by name.
type subject struct {
	name string
	run  func(ctx context.Context) (sample, error)
}

// measure runs the subjects in turn, several times.
func measure(ctx context.Context, rounds int, subjects []subject) (map[string][]sample, error) {
	out := map[string][]sample{}
	for round := range rounds {
		for _, s := range subjects {
			got, err := s.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			fmt.Printf("round %d  %-26s %8.0f/s  p50 %8s  p99 %8s  server CPU %7s/call\n", round+1, s.name,
				got.perSecond, got.p50.Round(10*time.Microsecond), got.p99.Round(10*time.Microsecond), got.cpuPerCall.Round(100*time.Nanosecond))
			out[s.name] = append(out[s.name], got)
		}
	}
	return out, nil
}

// figures are the rows of a subject's own values.
func figures(name string, samples []sample) []row {
	var rate, p50, p99, cpu []float64
	for _, s := range samples {
		rate = append(rate, s.perSecond)
		p50 = append(p50, s.p50.Seconds()*1e3)
		p99 = append(p99, s.p99.Seconds()*1e3)
		cpu = append(cpu, s.cpuPerCall.Seconds()*1e6)
	}
	return []row{
		newRow(name+"_rate", "calls/s", "", rate),
		newRow(name+"_p50", "ms", "", p50),
		newRow(name+"_p99", "ms", "", p99),
		newRow(name+"_cpu", "us/call", "", cpu),
	}
}

// ratio compares two subjects round by round.
func ratio(name, unit, baseline string, a, b []sample, value func(sample) float64) row {
	v := make([]float64, len(a))
	for i := range a {
		v[i] = value(a[i]) / value(b[i])
	}
	return newRow(name, unit, baseline, v)
}

func rate(s sample) float64   { return s.perSecond }
func perCPU(s sample) float64 { return 1 / s.cpuPerCall.Seconds() }
