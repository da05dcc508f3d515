// Command bench measures Callgate against a floor and a peer in the same run
// and prints ratios, each with its spread, since the machine under it is noisy
// and what holds is the comparison.
//
//	go run ./bench [authz] [envoy] [spool] [trail] [policy] [mask] [approvals]
//
// policy without its replay of recorded calls is "decide".
//
// It writes the rows to bench/results.jsonl too. The servers run as processes
// of their own, so that their CPU time can be told from the load's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sort"
	"syscall"
	"text/tabwriter"
)

// row is one measured figure.
type row struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"` // median over the runs
	Unit     string  `json:"unit"`
	Baseline string  `json:"baseline,omitempty"` // what it is a ratio to
	Min      float64 `json:"min"`
	Max      float64 `json:"max"`
	N        int     `json:"n"`
}

// newRow sums up one figure of several runs.
func newRow(name, unit, baseline string, values []float64) row {
	v := slices.Clone(values)
	sort.Float64s(v)
	return row{Name: name, Value: v[len(v)/2], Unit: unit, Baseline: baseline, Min: v[0], Max: v[len(v)-1], N: len(v)}
}

// rounds is how many times each subject is measured, one after the other in
// turn, so that a slow minute of the machine hits all of them.
const rounds = 5

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 3 && os.Args[1] == "serve-floor" {
		exit(serveFloor(ctx, os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == "clickhouse" {
		exit(serveEngine(ctx, os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "ship" {
		exit(serveShip(ctx, os.Args[2:]))
	}
	parts := os.Args[1:]
	if len(parts) == 0 {
		parts = []string{"authz", "envoy", "spool", "trail", "policy", "approvals"}
	}
	var rows []row
	for _, part := range parts {
		var got []row
		var err error
		switch part {
		case "authz":
			got, err = benchAuthz(ctx)
		case "envoy":
			got, err = benchEnvoy(ctx)
		case "spool":
			got, err = benchSpool(ctx)
		case "trail":
			got, err = benchTrail(ctx)
		case "policy":
			if got, err = benchPolicy(ctx); err == nil {
				var more []row
				more, err = benchBacktest(ctx)
				got = append(got, more...)
			}
		case "approvals":
			got, err = benchApprovals(ctx)
		case "mask":
			got, err = benchMask(ctx)
		case "decide":
			got, err = benchPolicy(ctx)
		default:
			err = fmt.Errorf("no part %q; there are authz, envoy, spool, trail, policy and approvals", part)
		}
		if err != nil {
			exit(fmt.Errorf("bench %s: %w", part, err))
		}
		rows = append(rows, got...)
	}
	exit(errors.Join(print(rows), write(rows)))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func print(rows []row) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nNAME\tMEDIAN\tUNIT\tMIN\tMAX\tRUNS\tAGAINST")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%.4g\t%.4g\t%d\t%s\n", r.Name, r.Value, r.Unit, r.Min, r.Max, r.N, r.Baseline)
	}
	return w.Flush()
}

func write(rows []row) error {
	f, err := os.Create(filepath.Join("bench", "results.jsonl"))
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	enc := json.NewEncoder(f)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return errors.Join(fmt.Errorf("write results: %w", err), f.Close())
		}
	}
	return f.Close()
}
