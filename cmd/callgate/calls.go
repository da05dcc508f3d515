package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
)

func newCalls() *cobra.Command {
	c := &cobra.Command{
		Use:   "calls",
		Short: "Look at recorded calls",
		Long: `Calls lists, shows and follows the calls of the audit trail. A call has its row
once it has ended, or once a leg of it has been waited for long enough.`,
	}
	c.AddCommand(newCallsList(), newCallsShow(), newCallsTail(), newCallsUnseal())
	return c
}

// callFilter is a filter as its flags give it.
type callFilter struct {
	f            clickhouse.Filter
	since, until string
}

// decisions are what --decision takes.
var decisions = []string{"allowed", "denied", string(call.Allow), string(call.Deny), string(call.HoldAllow), string(call.HoldDeny), string(call.HoldExpired)}

// filterFlags adds the flags that say which calls.
func filterFlags(c *cobra.Command) *callFilter {
	v := &callFilter{}
	f := c.Flags()
	f.StringVar(&v.f.Identity, "identity", "", `who called, or acted for the caller; "issuer|subject" where subjects are not unique`)
	f.StringVar(&v.f.Connection, "connection", "", "which connection")
	f.StringVar(&v.f.Function, "function", "", "which function")
	f.StringVar(&v.f.Decision, "decision", "", strings.Join(decisions, ", "))
	f.StringVar(&v.f.Reason, "reason", "", "the reason, such as no_rule")
	f.StringVar(&v.f.Rule, "rule", "", "the rule that decided")
	f.StringVar(&v.f.Session, "session", "", "the session that the call belongs to")
	return v
}

// filter checks what the flags say.
func (v *callFilter) filter() (clickhouse.Filter, error) {
	f, now := v.f, time.Now()
	f.Decision = strings.Replace(f.Decision, "->", "→", 1)
	if f.Decision != "" && !slices.Contains(decisions, f.Decision) {
		return f, withCode(exitUsage, fmt.Errorf("--decision %q is not known; choose %s", v.f.Decision, strings.Join(decisions, ", ")))
	}
	for flag, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		text := map[string]string{"since": v.since, "until": v.until}[flag]
		if text == "" {
			continue
		}
		var err error
		if *at, err = parseWhen(text, now); err != nil {
			return f, withCode(exitUsage, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	if f.Limit < 0 || f.Limit > clickhouse.MaxCalls {
		return f, withCode(exitUsage, fmt.Errorf("--limit %d is outside 1 to %d; callgate query has no limit", f.Limit, clickhouse.MaxCalls))
	}
	return f, nil
}

// openTrail connects to the ClickHouse of the configuration.
func openTrail(c *cobra.Command) (*clickhouse.DB, error) {
	cfg, err := loadConfig(c)
	if err != nil {
		return nil, err
	}
	return reach(c, cfg)
}

// reach connects to the ClickHouse of a configuration, and makes sure that it
// answers.
func reach(c *cobra.Command, cfg *config.Config) (*clickhouse.DB, error) {
	db, err := app.OpenClickHouse(cfg)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	if err := db.Ping(c.Context()); err != nil {
		return nil, withCode(exitUnreachable, errors.Join(err, db.Close()))
	}
	return db, nil
}

func newCallsList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List recent calls, the newest first",
		Example: `  callgate calls list --since 1h --decision denied
  callgate calls list --identity alice --function refunds.create --since 2026-01-31 --json`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	v := filterFlags(c)
	c.Flags().StringVar(&v.since, "since", "1d", "calls that came since then: 90s, 2h, 1d, a date or an RFC 3339 time")
	c.Flags().StringVar(&v.until, "until", "", "calls that came before then")
	c.Flags().IntVar(&v.f.Limit, "limit", 20, "most calls to list")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		f, err := v.filter()
		if err != nil {
			return err
		}
		db, err := openTrail(c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		list, err := db.Calls(c.Context(), f)
		if err != nil {
			return withCode(exitNo, err)
		}
		if *asJSON {
			if list == nil {
				list = []clickhouse.Summary{}
			}
			return printJSON(c.OutOrStdout(), list)
		}
		rows := [][]string{{"TIME", "CALL", "WHO", "CONNECTION", "FUNCTION", "DECISION", "WHY", "STATUS", "TOOK"}}
		for _, s := range list {
			rows = append(rows, cells(s))
		}
		if err := table(c.OutOrStdout(), rows); err != nil {
			return err
		}
		if len(list) == f.Limit {
			fmt.Fprintf(c.ErrOrStderr(), "the newest %d; --limit lists more\n", len(list))
		}
		return nil
	}
	return c
}

// cells is what a line shows of a call.
func cells(s clickhouse.Summary) []string {
	who := s.Subject
	if s.Acting != s.Subject {
		who = s.Acting + " for " + s.Subject
	}
	why := s.Reason
	if s.Rule != "" {
		why = s.Rule
	}
	out := []string{s.Time.Format("2006-01-02T15:04:05.000Z"), s.CallID.String(), orDash(who), orDash(s.Connection), orDash(s.Function), s.Decision, orDash(why),
		outcome(s), orDash("")}
	if s.TotalMicros != nil {
		out[len(out)-1] = micros(*s.TotalMicros)
	}
	for i := range out {
		out[i] = clickhouse.Text(out[i])
	}
	return out
}

// outcome is what the caller got, in a word: the HTTP status, and what the
// protocol said inside it.
func outcome(s clickhouse.Summary) string {
	if s.Withheld != "" {
		return "withheld"
	}
	status := "unknown"
	if s.HTTPStatus != nil {
		status = strconv.Itoa(int(*s.HTTPStatus))
	} else if s.Answered == clickhouse.LegNone && s.Finished == clickhouse.LegNone {
		status = "-"
	}
	if s.RPCCode != nil && *s.RPCCode != 0 {
		status += fmt.Sprintf(" rpc %d", *s.RPCCode)
	}
	if s.ToolError != nil && *s.ToolError {
		status += " tool error"
	}
	return status
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func micros(n uint64) string {
	d := time.Duration(min(n, uint64(time.Duration(1<<62)/time.Microsecond))) * time.Microsecond
	if d >= time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.String()
}
