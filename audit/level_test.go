package audit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// As a spool fills and empties, each level is told once, by log, metric and
// status, and being about as full as a level is told once, too.
func TestAlertLevels(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	cfg := config(t, t.TempDir())
	cfg.MaxBytes, cfg.SegmentBytes = 1<<20, 1<<12
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, cfg)
	percent := func() float64 { return 100 * float64(s.Status().Bytes) / float64(cfg.MaxBytes) }
	var told []string
	look := func() {
		t.Helper()
		st := s.Status()
		if got := testutil.ToFloat64(cfg.Metrics.level); got != float64(st.Level) {
			t.Errorf("metric says %v, status %d", got, st.Level)
		}
		if p := percent(); p >= 95 != (st.Level == 95) && (p >= 95 || p < 93) || p < 48 && st.Level != 0 || p >= 50 && st.Level < 50 || p >= 80 && st.Level < 80 {
			t.Errorf("at %.1f%% the level is %d", p, st.Level)
		}
		if n := len(told); n == 0 || told[n-1] != fmt.Sprint(st.Level) {
			told = append(told, fmt.Sprint(st.Level))
		}
	}
	big := bytes.Repeat([]byte("x"), 3000)
	fro := func() { // a little emptier, and as full again
		t.Helper()
		first := s.Status().First
		if err := s.DeleteBefore(first + 2); err != nil {
			t.Fatal(err)
		}
		look()
		for range s.Status().First - first {
			if err := s.Append(context.Background(), decided(t, big)); err != nil {
				t.Fatal(err)
			}
			look()
		}
	}
	for level := 0; ; {
		if s.Append(context.Background(), decided(t, big)) != nil {
			break // full
		}
		look()
		if now := s.Status().Level; now != level { // just above it
			level = now
			for range 3 {
				fro()
			}
		}
	}
	for before := uint64(0); percent() > 2; {
		before = s.Status().First
		if err := s.DeleteBefore(before + 2); err != nil {
			t.Fatal(err)
		}
		look()
		if s.Status().First == before {
			break
		}
	}
	if got := strings.Join(told, " "); got != "0 50 80 95 80 50 0" {
		t.Errorf("levels were %s", got)
	}
	for line, n := range map[string]int{"spool is filling": 3, "spool is emptying": 3, "percent=50": 2, "percent=80": 2, "percent=95": 2} {
		if got := strings.Count(log.String(), line); got != n {
			t.Errorf("log tells %q %d times, want %d:\n%s", line, got, n, &log)
		}
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	cfg := config(t, t.TempDir())
	cfg.SegmentBytes = 1 << 12
	cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	s := open(t, cfg)
	fill(t, s, 0, 100)
	if err := s.DeleteBefore(30); err != nil {
		t.Fatal(err)
	}
	before := tree(t, cfg.Dir)
	for _, running := range []bool{true, false} {
		want := s.Status()
		if !running {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			before = tree(t, cfg.Dir)
		}
		got, err := Inspect(cfg.Dir, cfg.MaxBytes)
		if err != nil || got.ID != want.ID || got.First != want.First || got.Durable != want.Durable || got.Bytes < want.Bytes {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
		if after := tree(t, cfg.Dir); after != before {
			t.Errorf("looking changed\n%s to\n%s", before, after)
		}
	}
	if got, err := Inspect(cfg.Dir, 1000); err != nil || got.Level != 95 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Inspect(filepath.Join(cfg.Dir, "none"), 1); err == nil || !strings.Contains(err.Error(), "audit.spool.dir") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, idFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(cfg.Dir, 1); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("%v", err)
	}
}

// tree lists the files in dir with sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, e.Name(), info.Size(), info.ModTime())
	}
	return b.String()
}
