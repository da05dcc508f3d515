package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
)

func newAuditErase() *cobra.Command {
	c := &cobra.Command{
		Use:   "erase [CALL-ID …]",
		Short: "Erase the content of calls, and prove that this was done",
		Long: `Erase removes content from ClickHouse: arguments, path, error text, and request
and response bodies. Who called what, when and under which decision stays, and
so does the ledger, which still verifies: it committed to the content by a salted
hash, and the salt goes too. The erasure is itself an event of the ledger, made
durable before anything is removed.

Calls are named, or selected by identity, connection, function and period. It
takes a running Callgate (--server) and somebody whom audit.administrators names.

The requests of held calls go from the approval store of the replica that is asked;
ask each replica that has its own. Calls that have no row in ClickHouse yet, or
whose row lies in quarantine, can't be erased; how many the replica has is told.
ClickHouse removes the files that held the content within about ten minutes, and
a spool its own once ClickHouse has all that is in it.`,
		Example: `  callgate audit erase --identity alice --until 2026-01-01 --dry-run
  callgate audit erase --identity alice --reason "request 4711" --yes`,
	}
	apiFlags(c.Flags())
	var ask console.Erase
	var since, until string
	c.Flags().StringVar(&ask.Identity, "identity", "", "calls of this subject, acting identity or issuer|subject")
	c.Flags().StringVar(&ask.Connection, "connection", "", "calls of this connection")
	c.Flags().StringVar(&ask.Function, "function", "", "calls of this function")
	c.Flags().StringVar(&since, "since", "", "calls that came since then: 2h, 1d, a date or an RFC 3339 time")
	c.Flags().StringVar(&until, "until", "", "calls that came before then")
	c.Flags().StringVar(&ask.Reason, "reason", "", "why; it stays in the ledger")
	c.Flags().BoolVar(&ask.DryRun, "dry-run", false, "tell what would be erased, and erase nothing")
	yes := c.Flags().Bool("yes", false, "erase; nothing brings it back")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		now := time.Now()
		for _, b := range []struct {
			flag, text string
			to         *time.Time
		}{{"since", since, &ask.Since}, {"until", until, &ask.Until}} {
			if b.text == "" {
				continue
			}
			var err error
			if *b.to, err = parseWhen(b.text, now); err != nil {
				return withCode(exitUsage, fmt.Errorf("--%s: %w", b.flag, err))
			}
		}
		for _, a := range args {
			id, err := call.ParseID(a)
			if err != nil {
				return withCode(exitUsage, err)
			}
			ask.Calls = append(ask.Calls, id)
		}
		switch {
		case !ask.DryRun && ask.Reason == "":
			return withCode(exitUsage, errors.New("say why with --reason; it stays in the ledger"))
		case !ask.DryRun && !*yes:
			return withCode(exitUsage, errors.New("nothing brings erased content back: look with --dry-run, then say --yes"))
		}
		api, err := client(c)
		if err != nil {
			return err
		}
		done, err := api.Erase(c.Context(), ask)
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			err = printJSON(c.OutOrStdout(), done)
		} else {
			printErased(c, done, ask.DryRun)
		}
		if err == nil && len(done.Missing) > 0 {
			err = withCode(exitNo, fmt.Errorf("%d of the calls are not in ClickHouse; a row comes moments after its call ended", len(done.Missing)))
		}
		return err
	}
	return c
}

func printErased(c *cobra.Command, done console.Erased, dry bool) {
	list := func(ids []uuid.UUID) {
		for _, id := range ids[:min(len(ids), 20)] {
			fmt.Fprintf(c.OutOrStdout(), "  %s\n", id)
		}
		if len(ids) > 20 {
			fmt.Fprintf(c.OutOrStdout(), "  and %d more\n", len(ids)-20)
		}
	}
	what := "erased the content of"
	if dry {
		what = "would erase the content of"
	}
	fmt.Fprintf(c.OutOrStdout(), "%s %d calls\n", what, len(done.Calls))
	list(done.Calls)
	if done.Held > 0 {
		fmt.Fprintf(c.OutOrStdout(), "and %d held requests in this replica's approval store\n", done.Held)
	}
	if done.Unsettled > 0 || done.Quarantined > 0 {
		fmt.Fprintf(c.OutOrStdout(), "not looked at: %d calls of this replica that have no row in ClickHouse yet, %d rows in its quarantine; ask again once they are there\n", done.Unsettled, done.Quarantined)
	}
	if len(done.Missing) > 0 {
		fmt.Fprintf(c.OutOrStdout(), "not found: %d calls\n", len(done.Missing))
		list(done.Missing)
	}
}
