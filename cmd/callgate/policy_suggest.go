package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/backtest"
	"github.com/callgate/callgate/policies/suggest"
)

func newPolicySuggest() *cobra.Command {
	c := &cobra.Command{
		Use:   "suggest",
		Short: "Write the narrowest grants that let the observed calls pass",
		Long: `Suggest reads the calls that were let through and writes grants for them: each
identity, or a group whose members all did the same, may call the functions that
it called, by name, with arguments as they were seen. What was seen too seldom,
or lies far from all else, is listed as not covered.

The grants are then replayed over the same calls; the coverage goes to standard
error. The file can hold values that callers sent: treat it as the trail itself,
or use --no-values.

Exit codes: 0 all calls that are meant to be covered are, 1 not so, 3 ClickHouse
is away.`,
		Example: `  callgate policy suggest --since 30d -o suggested.yaml
  callgate policy suggest --since 7d --identity agent-7 --connection crm --no-values`,
		Args: cobra.NoArgs,
	}
	var v callFilter
	f := c.Flags()
	f.StringVar(&v.since, "since", "30d", "calls that came since then: 2h, 30d, a date or an RFC 3339 time")
	f.StringVar(&v.until, "until", "", "calls that came before then")
	f.StringVar(&v.f.Identity, "identity", "", `who called, or acted for the caller; "issuer|subject" where subjects are not unique`)
	f.StringVar(&v.f.Connection, "connection", "", "which connection")
	f.StringVar(&v.f.Function, "function", "", "which function")
	var run suggest.Config
	f.IntVar(&run.MinCalls, "min-calls", 5, "how many calls of an identity's to a function there must be")
	f.BoolVar(&run.NoValues, "no-values", false, "bound numbers and lengths only, and write no value that was sent as a text")
	f.IntVar(&run.Workers, "workers", 0, "how many pieces are read at a time; 0 means one for each CPU")
	out := f.StringP("output", "o", "", "file to write, which must not exist; otherwise standard output")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if run.MinCalls < 1 || run.Workers < 0 {
			return withCode(exitUsage, errors.New("--min-calls must be 1 or more, and --workers not negative"))
		}
		if run.Filter, err = v.filter(); err != nil {
			return err
		}
		if *out != "" {
			if _, err := os.Lstat(*out); err == nil {
				return withCode(exitUsage, fmt.Errorf("%s exists; name another file, or remove it", *out))
			}
		}
		cfg, err := loadConfig(c)
		if err != nil {
			return err
		}
		db, err := reach(c, cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		run.Trail, run.Connections = db, []string{}
		for _, conn := range cfg.Policy.Connections {
			run.Connections = append(run.Connections, conn.Name)
		}
		ended := showProgress(c.ErrOrStderr(), &run.Progress)
		defer ended()
		result, err := suggest.Run(c.Context(), run)
		if err != nil {
			return unreachable(c, db, err)
		}
		var text bytes.Buffer
		if err := result.Write(&text); err != nil {
			return err
		}
		policy, err := loadSuggested(text.Bytes(), cfg)
		if err != nil {
			return fmt.Errorf("what was suggested can't be loaded: %w", err)
		}
		coverage, err := result.Cover(c.Context(), policy)
		if err != nil {
			return unreachable(c, db, err)
		}
		ended()
		text.Reset()
		if err := result.Write(&text); err != nil { // with what is not covered
			return err
		}
		if *out == "" {
			_, err = c.OutOrStdout().Write(text.Bytes())
		} else {
			err = writeNew(*out, text.Bytes())
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(c.ErrOrStderr(), "%d grants: %s\n", len(result.Grants), coverage)
		if coverage.Denied+coverage.Widened > 0 {
			return withCode(exitNo, fmt.Errorf("the grants don't fit the calls that they were made from; see %s", named(coverage.Examples)))
		}
		return nil
	}
	return c
}

// writeNew writes a file that does not exist, for its owner alone: it can hold
// what callers sent.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the suggestion: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the suggestion: %w", err), os.Remove(path))
	}
	return nil
}

// loadSuggested reads a suggestion as policy check does, and compiles it over
// the configured connections.
func loadSuggested(text []byte, cfg *config.Config) (_ backtest.Policy, err error) {
	dir, err := os.MkdirTemp("", "callgate-suggest-")
	if err != nil {
		return backtest.Policy{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "suggested.yaml")
	if err := writeNew(path, text); err != nil {
		return backtest.Policy{}, err
	}
	p, err := config.CheckPolicy(path)
	if err != nil {
		return backtest.Policy{}, err
	}
	p.Connections = cfg.Policy.Connections
	return app.ReplayPolicy(p, cfg.Approvals.Approvers)
}
