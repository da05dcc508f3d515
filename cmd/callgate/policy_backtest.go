package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/backtest"
)

// replayFlags say which recorded calls are replayed, and how.
type replayFlags struct {
	callFilter
	policy  []string
	workers int
}

func (v *replayFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&v.since, "since", "30d", "calls that came since then: 2h, 30d, a date or an RFC 3339 time")
	f.StringVar(&v.until, "until", "", "calls that came before then")
	f.StringVar(&v.f.Identity, "identity", "", `who called, or acted for the caller; "issuer|subject" where subjects are not unique`)
	f.StringVar(&v.f.Connection, "connection", "", "which connection")
	f.StringVar(&v.f.Function, "function", "", "which function")
	f.IntVar(&v.workers, "workers", 0, "how many pieces are replayed at a time; 0 means one for each CPU")
	f.StringArrayVar(&v.policy, "policy", nil, "file or folder with the policy, instead of what -c names; may be repeated. Without connections in it, those of -c are used")
}

// readPolicy reads the policy that paths name, or that of the configuration.
func readPolicy(cfg *config.Config, paths []string) (config.Policy, error) {
	if len(paths) == 0 {
		return cfg.Policy, nil
	}
	files, err := config.PolicyFiles(paths...)
	if err != nil {
		return config.Policy{}, withCode(exitUsage, err)
	}
	p, err := config.CheckPolicy(files...)
	if err != nil {
		return config.Policy{}, withCode(exitUsage, fmt.Errorf("the policy can't be used:\n%w", err))
	}
	if len(p.Connections) == 0 {
		p.Connections = cfg.Policy.Connections
	}
	return p, nil
}

func replayable(cfg *config.Config, paths []string) (backtest.Policy, error) {
	p, err := readPolicy(cfg, paths)
	if err != nil {
		return backtest.Policy{}, err
	}
	out, err := app.ReplayPolicy(p, cfg.Approvals.Approvers)
	if err != nil {
		return backtest.Policy{}, withCode(exitUsage, fmt.Errorf("the policy can't be used:\n%w", err))
	}
	return out, nil
}

func newPolicyBacktest() *cobra.Command {
	c := &cobra.Command{
		Use:   "backtest",
		Short: "Tell which recorded calls a policy would decide differently",
		Long: `Backtest replays the calls of the audit trail through a policy, and prints those
that it would decide differently than they were: by rule, identity and function,
with examples. What can't be judged, since what a rule looks at is not recorded,
is counted apart, with the reason. Held calls are compared by what the rules say;
what people would say is not known.

Exit codes: 0 no call is decided differently, 1 some are, 3 ClickHouse is away.`,
		Example: `  callgate policy backtest --since 30d --policy policies.new/
  callgate policy backtest --since 7d --connection crm --policy policies.new/ --baseline policies/
  callgate policy backtest --since 2026-11-01 --until 2026-11-08 --json`,
		Args: cobra.NoArgs,
	}
	var v replayFlags
	v.add(c)
	baseline := c.Flags().String("baseline", "recorded", "what to compare with: recorded, for what was decided, or a file or folder with another policy")
	examples := c.Flags().Int("examples", 3, "how many calls to name of each difference, at most 100")
	limit := c.Flags().Int("limit", 50, "how many lines to print of each list; --json has no limit")
	given := c.Flags().Bool("grants", false, "take in the grants that were given while the service ran; the admin API is asked for them")
	apiFlags(c.Flags())
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if *examples < 1 || *examples > 100 || *limit < 1 || v.workers < 0 {
			return withCode(exitUsage, errors.New("--examples must be from 1 to 100, --limit from 1 on, and --workers not negative"))
		}
		run := backtest.Config{Workers: v.workers, Examples: *examples}
		if run.Filter, err = v.filter(); err != nil {
			return err
		}
		cfg, err := loadConfig(c)
		if err != nil {
			return err
		}
		if run.Candidate, err = replayable(cfg, v.policy); err != nil {
			return err
		}
		if *baseline != "recorded" {
			base, err := replayable(cfg, []string{*baseline})
			if err != nil {
				return fmt.Errorf("--baseline: %w", err)
			}
			run.Baseline = &base
		}
		if *given {
			if err := withGiven(c, &run); err != nil {
				return err
			}
		}
		db, err := reach(c, cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		run.Trail = db
		ended := showProgress(c.ErrOrStderr(), &run.Progress)
		report, err := backtest.Run(c.Context(), run)
		ended()
		if err != nil {
			return unreachable(c, db, err)
		}
		if *asJSON {
			err = printJSON(c.OutOrStdout(), report)
		} else {
			err = printBacktest(c.OutOrStdout(), report, *limit)
		}
		if err != nil {
			return err
		}
		if report.Different > 0 {
			return withCode(exitNo, fmt.Errorf("%s of %s calls would be decided differently", grouped(report.Different), grouped(report.Calls)))
		}
		return nil
	}
	return c
}

// withGiven adds the grants that were given while the service ran, for the time
// that each was in force, to what is replayed through.
func withGiven(c *cobra.Command, run *backtest.Config) error {
	api, err := client(c)
	if err != nil {
		return err
	}
	list, err := api.Grants(c.Context(), true)
	if err != nil {
		return answered(err)
	}
	grants := make([]policies.Grant, len(list))
	for i, g := range list {
		grants[i] = backtest.Given(policies.Grant{Name: g.ID, Identities: g.Identities, Groups: g.Groups, Actors: g.Actors,
			Connections: g.Connections, Functions: g.Functions, When: g.When, Until: g.Until}, g.Created, g.Revoked)
	}
	run.Given = true
	for _, p := range []*backtest.Policy{&run.Candidate, run.Baseline} {
		if p == nil {
			continue
		}
		if p.Set, err = p.Set.WithGrants(grants); err != nil {
			return fmt.Errorf("the grants that were given can't be used with this policy: %w", err)
		}
	}
	return nil
}

// unreachable tells a ClickHouse that went away from one that refuses.
func unreachable(c *cobra.Command, db *clickhouse.DB, err error) error {
	if c.Context().Err() == nil && db.Ping(c.Context()) != nil {
		return withCode(exitUnreachable, err)
	}
	return withCode(exitNo, err)
}

// showProgress shows on a terminal how far a replay is, and returns what ends it.
func showProgress(w io.Writer, hook *func(done, total uint64)) (ended func()) {
	f, ok := w.(*os.File)
	if !ok {
		return func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	began := time.Now()
	var mu sync.Mutex
	*hook = func(done, total uint64) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(f, "\r\x1b[K%s of %s calls, %s", grouped(done), grouped(total), time.Since(began).Round(100*time.Millisecond))
	}
	return func() { fmt.Fprint(f, "\r\x1b[K") }
}

// grouped writes a number with its thousands apart.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func printBacktest(w io.Writer, r *backtest.Report, limit int) error {
	var b strings.Builder
	since := "the first"
	if !r.Since.IsZero() {
		since = r.Since.UTC().Format(time.RFC3339)
	}
	against := "what was decided"
	if r.Baseline != "recorded" {
		against = "policy " + r.Baseline
	}
	fmt.Fprintf(&b, "policy %s against %s, calls since %s until %s\n", r.Candidate, against, since, r.Until.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "%s calls: %s the same, %s different, %s can't be judged, %s denied before any rule\n", grouped(r.Calls), grouped(r.Same), grouped(r.Different), grouped(r.Unjudged), grouped(r.NotRuled))
	if r.OtherRule > 0 {
		fmt.Fprintf(&b, "%s of the same are decided by another rule\n", grouped(r.OtherRule))
	}
	if r.Held > 0 {
		fmt.Fprintf(&b, "%s were held then: they are compared by what the rules say, not by what people would\n", grouped(r.Held))
	}
	for _, change := range r.Changes {
		fmt.Fprintf(&b, "\n%s → %s: %s calls\n", change.From, change.To, grouped(change.Calls))
		rows := [][]string{{"CALLS", "RULE", "WAS", "WHO", "CONNECTION", "FUNCTION", "EXAMPLES"}}
		more := 0
		for _, d := range r.Details {
			if d.From != change.From || d.To != change.To {
				continue
			}
			if len(rows) > limit {
				more++
				continue
			}
			who := d.Subject
			if d.Acting != "" {
				who = d.Acting + " for " + d.Subject
			}
			rows = append(rows, []string{grouped(d.Calls), orDash(d.Rule), orDash(d.Was), orDash(who), orDash(d.Connection), orDash(d.Function), named(d.Examples)})
		}
		if err := table(&b, rows); err != nil {
			return err
		}
		if more > 0 {
			fmt.Fprintf(&b, "and %d more lines; --limit or --json shows them\n", more)
		}
	}
	if r.Untold > 0 {
		fmt.Fprintf(&b, "\n%s different calls are counted above and not listed: there are too many kinds; name a --connection or --identity\n", grouped(r.Untold))
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(&b, "\ncan't be judged: %s calls\n", grouped(r.Unjudged))
		rows := [][]string{{"CALLS", "WHY", "EXAMPLES"}}
		for _, m := range r.Missing[:min(len(r.Missing), limit)] {
			rows = append(rows, []string{grouped(m.Calls), m.Why, cmp.Or(named(m.Examples), "-")})
		}
		if err := table(&b, rows); err != nil {
			return err
		}
		if more := len(r.Missing) - limit; more > 0 {
			fmt.Fprintf(&b, "and %d more lines; --limit or --json shows them\n", more)
		}
	}
	if len(r.Before) > 0 {
		var list []string
		for _, n := range r.Before {
			list = append(list, fmt.Sprintf("%s %s", printable(n.Reason), grouped(n.Calls)))
		}
		fmt.Fprintf(&b, "\ndenied before any rule was asked, and not compared: %s\n", strings.Join(list, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func named(list []backtest.Example) string {
	ids := make([]string, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	return strings.Join(ids, " ")
}
