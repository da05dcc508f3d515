package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/console"
)

// trailStatus is what status prints.
type trailStatus struct {
	// Source is the admin API that answered, or "" where the spool itself
	// was looked at.
	Source string `json:"source"`
	console.Audit
}

func newAuditStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell how the audit trail stands",
		Long: `Status asks a running Callgate (--server) how its audit trail stands: what its
spool holds and how full it is, how far ClickHouse is behind, how many calls and
rows wait, and what was signed last.

Where no service answers it looks at the spool that the configuration names, and
changes nothing there.`,
		Example: `  export CALLGATE_TOKEN=$(your-idp-login)
  callgate audit status
  callgate audit status --json | jq .shipping.lag_seconds`,
		Args: cobra.NoArgs,
	}
	apiFlags(c.Flags())
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := readStatus(c)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), s)
		}
		_, err = c.OutOrStdout().Write(s.page())
		return err
	}
	return c
}

// readStatus asks the service, or looks itself.
func readStatus(c *cobra.Command) (trailStatus, error) {
	api, token, err := anyClient(c)
	if err != nil {
		return trailStatus{}, err
	}
	server, err := c.Flags().GetString("server")
	if err != nil {
		return trailStatus{}, err
	}
	found, err := api.Audit(c.Context())
	var dial *net.OpError
	var refused console.Refused
	switch {
	case err == nil:
		return trailStatus{Source: server, Audit: found}, nil
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized && !token:
		return trailStatus{}, errNoToken
	case !errors.As(err, &dial) || dial.Op != "dial":
		return trailStatus{}, answered(err)
	}
	fmt.Fprintf(c.ErrOrStderr(), "callgate: no service answers at %s; this is the spool as it lies on disk\n", server)
	return inspect(c)
}

// inspect looks at the spool of the configuration.
func inspect(c *cobra.Command) (trailStatus, error) {
	cfg, err := loadConfig(c)
	if err != nil {
		return trailStatus{}, err
	}
	dir := cfg.Audit.Spool.Dir
	st, err := audit.Inspect(dir, int64(cfg.Audit.Spool.MaxBytes))
	if err != nil {
		return trailStatus{}, withCode(exitUnreachable, err)
	}
	s := trailStatus{Audit: console.Audit{Node: cfg.Node, Spool: app.AuditSpool(dir, st)}}
	if cfg.Audit.ClickHouse.URL == "" {
		return s, nil
	}
	s.Shipping = &console.Shipping{ClickHouse: console.Reachable, Quarantined: clickhouse.Quarantined(dir), Quarantine: clickhouse.QuarantineDir(dir),
		Backlog: st.Durable - st.First}
	db, err := app.OpenClickHouse(cfg)
	if err != nil {
		return trailStatus{}, withCode(exitUsage, err)
	}
	defer db.Close()
	shipped, err := db.Shipped(c.Context(), st.ID)
	if err != nil {
		s.Shipping.ClickHouse, s.Shipping.Why = console.Away, err.Error()
		return s, nil
	}
	s.Shipping.Backlog = st.Durable - min(st.Durable, max(shipped, st.First))
	return s, nil
}

// page is the status as a person reads it.
func (s trailStatus) page() []byte {
	var out bytes.Buffer
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-12s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	if s.Source != "" {
		line("service", "%s, node %s", s.Source, s.Node)
	} else {
		line("service", "none answers")
	}
	sp := s.Spool
	line("spool", "%s (%s)", sp.Dir, orDash(sp.ID))
	line("", "%d events kept, %s of %s (%.1f %%)", sp.Records, size(sp.Bytes), size(sp.MaxBytes), sp.Percent)
	switch {
	case sp.Error != "":
		line("alert", "it takes no events, calls are denied: %s", sp.Error)
	case sp.Level > 0:
		line("alert", "over %d %% full; at its limit calls are denied", sp.Level)
	default:
		line("alert", "none")
	}
	if sp.Waiting > 0 {
		line("waiting", "%d events, in memory, of calls that were let through and could not be recorded yet", sp.Waiting)
	}
	if sh := s.Shipping; sh == nil {
		line("ClickHouse", "none is configured; the trail stays in the spool")
	} else {
		line("ClickHouse", "%s", sh.ClickHouse)
		if sh.Why != "" {
			line("", "%s", sh.Why)
		}
		behind := fmt.Sprintf("%d events are not there yet", sh.Backlog)
		if sh.Lag > 0 {
			behind += fmt.Sprintf(", the oldest %s old", time.Duration(sh.Lag*float64(time.Second)).Round(100*time.Millisecond))
		}
		line("behind", "%s", behind)
		line("unsettled", "%d calls wait for a leg", sh.Unsettled)
		line("quarantine", "%d rows", sh.Quarantined)
		if sh.Quarantined > 0 {
			line("", "in %s; callgate audit requeue sends them again", sh.Quarantine)
		}
	}
	cp := s.Checkpoint
	if cp != nil && cp.Size > 0 {
		line("checkpoint", "%d events signed at %s", cp.Size, cp.Time.UTC().Format(time.RFC3339))
	} else {
		line("checkpoint", "none")
	}
	if cp != nil && cp.Error != "" {
		line("", "signing fails: %s", cp.Error)
	}
	return out.Bytes()
}

// size writes bytes for people.
func size(n int64) string {
	for _, u := range []struct {
		name   string
		factor int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.factor {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.factor), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
