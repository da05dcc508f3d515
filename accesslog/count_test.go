package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callgate/callgate/call"
)

// refused is an entry of what Envoy answered by itself, bypassed one of what
// reached a function and nobody decided.
func refused() *datav3.HTTPAccessLogEntry {
	return &datav3.HTTPAccessLogEntry{Response: &datav3.HTTPResponseProperties{ResponseCodeDetails: "route_not_found"}}
}

func bypassed() *datav3.HTTPAccessLogEntry {
	e := refused()
	e.CommonProperties = &datav3.AccessLogCommon{RouteName: "open route", UpstreamCluster: "crm", TimeToFirstUpstreamTxByte: durationpb.New(time.Millisecond)}
	e.Request = &datav3.HTTPRequestProperties{Path: "/a?token=s3cr3t", Authority: "s3cr3t"}
	return e
}

// counted are the recorded counts by Envoy.
func (s *spool) counted(t *testing.T) map[string]call.CountedEvent {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]call.CountedEvent{}
	for _, e := range s.events {
		if e.Kind == call.Counted {
			if _, twice := found[e.Counted.Node]; twice || e.CallID != (call.ID{}) {
				t.Errorf("%+v", e)
			}
			found[e.Counted.Node] = *e.Counted
		}
	}
	return found
}

func TestCounts(t *testing.T) {
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	rec := &spool{}
	c := serve(t, rec)
	start := entry(t, id.String())
	start.CommonProperties.AccessLogType = datav3.AccessLogType_DownstreamStart
	answered := refused()
	answered.Response.ResponseCodeDetails = "via_upstream"
	send(t, c, message("edge-1", start, entry(t, id.String()), refused()), message("", bypassed(), entry(t, id.String())))
	send(t, c, message("edge-2", entry(t, id.String())))
	send(t, c, message("edge-1", answered))
	if n := len(rec.counted(t)); n != 0 {
		t.Errorf("%d counts before their time", n)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	from, to := time.Unix(8, 0), time.Unix(9, 0)
	want := map[string]call.CountedEvent{
		"edge-1": {Node: "edge-1", From: from, To: to, Entries: 5, Decided: 2, Undecided: 3, Reached: 2, Calls: 2},
		"edge-2": {Node: "edge-2", From: from, To: to, Entries: 1, Decided: 1, Calls: 1},
	}
	if got := rec.counted(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if testutil.ToFloat64(c.cfg.Metrics.bypassed) != 2 || testutil.ToFloat64(c.cfg.Metrics.undecided) != 3 {
		t.Errorf("counted %v bypassing, %v undecided", testutil.ToFloat64(c.cfg.Metrics.bypassed), testutil.ToFloat64(c.cfg.Metrics.undecided))
	}
	log := c.log.String()
	if !strings.Contains(log, "reached an upstream without a decision") || !strings.Contains(log, `route="open route"`) || strings.Contains(log, "s3cr3t") {
		t.Errorf("log: %s", log)
	}
	// Nothing came since, and nothing is told.
	before := len(rec.events)
	if err := c.Flush(t.Context()); err != nil || len(rec.events) != before {
		t.Errorf("%d events, %v", len(rec.events)-before, err)
	}
}

// A count that can't be recorded is in the next.
func TestCountsOutliveAFailure(t *testing.T) {
	rec := &spool{err: errors.New("disk full")}
	c := serve(t, rec)
	send(t, c, message("edge-1", refused(), refused()), message("", bypassed()))
	if err := c.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "edge-1") {
		t.Errorf("%v", err)
	}
	send(t, c, message("edge-1", refused()))
	rec.mu.Lock()
	rec.err = nil
	rec.mu.Unlock()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := rec.counted(t)["edge-1"]; got.Entries != 4 || got.Undecided != 4 || got.Reached != 1 || !got.From.Equal(time.Unix(8, 0)) {
		t.Errorf("%+v", got)
	}
}

// An Envoy can say anything of itself, and send any number of entries; neither
// fills memory or log.
func TestCountsAreBounded(t *testing.T) {
	rec := &spool{}
	c := serve(t, rec)
	for i := range maxNodes + 50 {
		c.count(t.Context(), fmt.Sprint("node-", i), 0, refused())
	}
	for range 3 * maxLogged {
		c.count(t.Context(), "node-1", 0, bypassed())
	}
	c.count(t.Context(), strings.Repeat("x", 1<<20)+"\xff", 1, refused())
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := rec.counted(t)
	if len(got) != maxNodes+1 || got[otherNodes].Entries != 51 || got["node-1"].Reached != 3*maxLogged {
		t.Errorf("%d Envoys, %+v", len(got), got[otherNodes])
	}
	if n := strings.Count(c.log.String(), "a request reached an upstream"); n != maxLogged {
		t.Errorf("%d lines in the log", n)
	}
}

// Counts come every minute and follow each other without a gap.
func TestCountsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &spool{}
		s := New(Config{Recorder: rec, Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = s.Run(ctx) }() // it returns nil
		for range 3 {
			s.count(ctx, "edge-1", 0, refused())
			time.Sleep(time.Minute + time.Second)
		}
		stop()
		synctest.Wait()
		if len(rec.events) != 3 {
			t.Fatalf("%d counts", len(rec.events))
		}
		for i, e := range rec.events {
			if e.Counted.Entries != 1 || e.Counted.To.Sub(e.Counted.From) != time.Minute || i > 0 && !e.Counted.From.Equal(rec.events[i-1].Counted.To) {
				t.Errorf("%+v", e.Counted)
			}
		}
	})
}
