package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/audit/clickhouse"
)

func newAuditCompleteness() *cobra.Command {
	c := &cobra.Command{
		Use:   "completeness",
		Short: "Tell whether all calls of a period are here",
		Long: `Completeness joins the legs of every call of a period (decided, answered,
finished), looks for gaps in each replica's spool, compares what Envoys' access
logs told with what was recorded, and names every call that misses a leg or its
row, every gap, every replica that fell silent and every request that reached a
function without a decision.

With --envoy-admin it also asks each Envoy how many access-log entries it has
dropped, which nothing else can tell.

It exits with 0 only where nothing is missing: all calls of the period are here.`,
		Example: `  callgate audit completeness --since 1d
  callgate audit completeness --since 2026-11-01 --until 2026-12-01 --json
  callgate audit completeness --envoy-admin http://127.0.0.1:9901`,
		Args: cobra.NoArgs,
	}
	since := c.Flags().String("since", "1d", "from then on: 2h, 1d, a date or an RFC 3339 time")
	until := c.Flags().String("until", "5m", "until then; by default some minutes ago, since legs take their time")
	admins := c.Flags().StringArray("envoy-admin", nil, "URL of an Envoy's admin interface; may be repeated")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		now := time.Now()
		from, err := parseWhen(*since, now)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("--since: %w", err))
		}
		to, err := parseWhen(*until, now)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("--until: %w", err))
		}
		if !from.Before(to) {
			return withCode(exitUsage, fmt.Errorf("the period from %s until %s is empty", from.Format(time.RFC3339), to.Format(time.RFC3339)))
		}
		db, err := openTrail(c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		found, err := db.Completeness(c.Context(), from, to)
		if err != nil {
			return withCode(exitUnreachable, err)
		}
		logs := []envoyLog{}
		for _, a := range *admins {
			l, err := askEnvoy(c.Context(), a)
			if err != nil {
				return withCode(exitUnreachable, err)
			}
			logs = append(logs, l)
		}
		complete := found.Complete()
		for _, l := range logs {
			complete = complete && l.Dropped == 0
		}
		if *asJSON {
			err = printJSON(c.OutOrStdout(), struct {
				Complete bool `json:"complete"`
				clickhouse.Completeness
				Logs []envoyLog `json:"envoy_logs"`
			}{complete, found, logs})
		} else {
			err = printCompleteness(c.OutOrStdout(), found, logs, complete)
		}
		if err == nil && !complete {
			err = withCode(exitNo, errors.New("the trail of this period is not complete"))
		}
		return err
	}
	return c
}

// envoyLog is what an Envoy counted of its own access log, since it started.
type envoyLog struct {
	Admin   string `json:"admin"`
	Written uint64 `json:"written"`
	Dropped uint64 `json:"dropped"`
}

// askEnvoy reads Envoy's counters of the gRPC access log.
func askEnvoy(ctx context.Context, admin string) (envoyLog, error) {
	l := envoyLog{Admin: admin}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(admin, "/")+"/stats?format=json&filter="+url.QueryEscape("grpc_access_log"), nil)
	if err != nil {
		return l, fmt.Errorf("--envoy-admin %q is no URL such as http://127.0.0.1:9901", admin)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return l, fmt.Errorf("ask the Envoy at %s: %w", admin, err)
	}
	defer res.Body.Close()
	var stats struct {
		Stats []struct {
			Name  string `json:"name"`
			Value uint64 `json:"value"`
		} `json:"stats"`
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode == http.StatusOK {
		err = json.Unmarshal(data, &stats)
	}
	if err != nil || res.StatusCode != http.StatusOK {
		return l, fmt.Errorf("ask the Envoy at %s: it answered %s, not statistics; is this its admin address?", admin, res.Status)
	}
	for _, s := range stats.Stats {
		switch {
		case strings.HasSuffix(s.Name, "logs_written"):
			l.Written += s.Value
		case strings.HasSuffix(s.Name, "logs_dropped"):
			l.Dropped += s.Value
		}
	}
	return l, nil
}

func printCompleteness(w io.Writer, c clickhouse.Completeness, logs []envoyLog, complete bool) error {
	var b bytes.Buffer
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("%s until %s: %d calls, %d decided events", stamp(c.Since), stamp(c.Until), c.Calls, c.Decided)
	if len(c.Spools) == 0 {
		say("no replica recorded or signed anything in this period")
	}
	for _, s := range c.Spools {
		say("replica %s, spool %s: %d events, signed last at %s", clickhouse.Text(s.Node), s.Spool, s.Events, stamp(s.Signed))
		for _, g := range s.Gaps {
			say("  MISSING events %d to %d", g.First, g.Last)
		}
		if s.Lost > 0 {
			say("  MISSING at least %d finished events of access-log entries that it counted", s.Lost)
		}
		for _, o := range s.Outage {
			switch {
			case o.To.IsZero() && o.Stopped:
				say("  stopped in order at %s", stamp(o.From))
			case o.To.IsZero():
				say("  SILENT since %s, without having said that it stops; its disk may hold events", stamp(o.From))
			case o.Stopped:
				say("  was stopped from %s to %s", stamp(o.From), stamp(o.To))
			default:
				say("  was down from %s to %s without having said that it stops; it came back with its spool", stamp(o.From), stamp(o.To))
			}
		}
	}
	for _, e := range c.Envoys {
		say("Envoy %s: %d calls, %d of them finished; its access log told of %d, and of %d requests that it answered by itself",
			clickhouse.Text(e.Node), e.Calls, e.Finished, e.Counted, e.Undecided-min(e.Undecided, e.Reached))
		if e.Reached > 0 {
			say("  BYPASS: %d requests reached a function without a decision", e.Reached)
		}
	}
	for _, l := range logs {
		say("Envoy at %s: %d access-log entries written, %d dropped since it started", clickhouse.Text(l.Admin), l.Written, l.Dropped)
	}
	for _, l := range c.MissingLegs {
		say("MISSING %s of call %s, %s %s %s", missingOf(l), l.CallID, stamp(l.Time), clickhouse.Text(l.Connection), clickhouse.Text(l.Function))
	}
	if more := c.MissingLegsN - uint64(len(c.MissingLegs)); more > 0 {
		say("and %d more calls miss a leg", more)
	}
	for _, id := range c.MissingRows {
		say("MISSING row of call %s, whose decision is in the ledger", id)
	}
	if more := c.MissingRowsN - uint64(len(c.MissingRows)); more > 0 {
		say("and %d more rows", more)
	}
	for _, n := range []struct {
		n    uint64
		what string
	}{
		{c.Unexplained, "UNEXPLAINED: %d rows have no decision in the ledger"}, {c.Unreadable, "UNREADABLE: %d events in the ledger can't be decoded"}, {c.Doubled, "DOUBLED: %d rows or events are there more than once"},
		{c.HungUp, "%d callers hung up before there was a response"},
		{c.Backlog, "%d calls were let through before their record was durable, as their connections allow"},
		{c.Unsigned, "%d events are not signed yet"},
	} {
		if n.n > 0 {
			say(n.what, n.n)
		}
	}
	if complete {
		say("COMPLETE: all calls of this period are here")
	}
	_, err := w.Write(b.Bytes())
	return err
}

func missingOf(l clickhouse.MissingLeg) string {
	var legs []string
	if l.Answered == clickhouse.LegUnknown {
		legs = append(legs, "response")
	}
	if l.Finished == clickhouse.LegUnknown {
		legs = append(legs, "access log")
	}
	return strings.Join(legs, " and ")
}
