package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
)

func newReview() *cobra.Command {
	c := &cobra.Command{
		Use:   "review ID",
		Short: "Say what you found of a call that broke glass",
		Long: `Review says of a call that passed without approval, because its caller broke
glass, whether that was justified. Approvers of its rule can, and who broke the
glass can't. "callgate approvals list --reviews" lists what waits for one.`,
		Example: "  callgate approvals review apr_k3j5m2n4p6q7r2s3 --comment \"the outage was real\"\n  callgate approvals review apr_k3j5m2n4p6q7r2s3 --unjustified --comment \"could have waited\"",
		Args:    cobra.ExactArgs(1),
	}
	comment := c.Flags().String("comment", "", "what you found; kept in the audit trail (required)")
	unjustified := c.Flags().Bool("unjustified", false, "it should not have been done")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		a, err := api.Review(c.Context(), args[0], console.Review{Justified: !*unjustified, Comment: *comment})
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), a)
		}
		found := "justified"
		if *unjustified {
			found = "not justified"
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: reviewed, %s (%s %s for %s)\n", a.ID, found, a.Connection, printable(a.Function), printable(who(a)))
		return err
	}
	return c
}

func newDelegate() *cobra.Command {
	c := &cobra.Command{
		Use:   "delegate PERSON",
		Short: "Let somebody decide in your place for a while",
		Long: `Delegate lets PERSON, a token's subject or "issuer|subject", decide where you may,
until a time. What others have delegated to you is not passed on, and nobody
decides about a call of theirs or of yours through it.`,
		Example: `  callgate approvals delegate ann@example.com --for 5d --reason "on leave"
  callgate approvals delegate "https://idp.example.com|ann" --until 2026-12-24T18:00:00Z
  callgate approvals delegate --list
  callgate approvals delegate --end dlg_k3j5m2n4p6q7r2s3`,
		Args: cobra.MaximumNArgs(1),
	}
	until := c.Flags().String("until", "", "when it ends, such as 2026-12-24T18:00:00Z")
	period := c.Flags().String("for", "", "how long it lasts, such as 8h or 5d; at most 90d")
	reason := c.Flags().String("reason", "", "why; kept in the audit trail")
	list := c.Flags().Bool("list", false, "list those that you gave or have")
	all := c.Flags().Bool("all", false, "with --list: also those that are over")
	everyone := c.Flags().Bool("everyone", false, "with --list: whosever they are; for those in control.administrators")
	end := c.Flags().String("end", "", "take the delegation with this id back")
	asJSON := jsonFlag(c)
	c.MarkFlagsMutuallyExclusive("until", "for")
	c.MarkFlagsMutuallyExclusive("list", "end", "until")
	c.MarkFlagsMutuallyExclusive("list", "end", "for")
	c.MarkFlagsMutuallyExclusive("everyone", "end")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		var out []console.Delegation
		switch {
		case (*all || *everyone) && !*list:
			return withCode(exitUsage, errors.New("--all and --everyone are for --list"))
		case *list:
			out, err = api.Delegations(c.Context(), *all, *everyone)
		case *end != "":
			out = make([]console.Delegation, 1)
			out[0], err = api.Undelegate(c.Context(), *end)
		case len(args) == 0:
			return withCode(exitUsage, errors.New("name the person who is to decide in your place; or give --list or --end"))
		default:
			ends, wrong := endOf(*until, *period, time.Now())
			if wrong != nil {
				return withCode(exitUsage, wrong)
			}
			out = make([]console.Delegation, 1)
			out[0], err = api.Delegate(c.Context(), console.Delegate{To: args[0], Until: ends, Reason: *reason})
		}
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			if out == nil {
				out = []console.Delegation{}
			}
			return printJSON(c.OutOrStdout(), out)
		}
		rows := [][]string{{"ID", "FROM", "TO", "UNTIL", "REASON"}}
		for _, d := range out {
			ends := d.Until.Local().Format(time.RFC3339)
			if !d.Ended.IsZero() {
				ends = "taken back " + d.Ended.Local().Format(time.RFC3339)
			}
			rows = append(rows, []string{d.ID, d.From, d.To, ends, d.Reason})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

// endOf is when a delegation ends.
func endOf(until, period string, now time.Time) (time.Time, error) {
	switch {
	case until != "":
		t, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return t, fmt.Errorf("--until %q is not a time such as 2026-12-24T18:00:00Z", until)
		}
		return t, nil
	case period != "":
		p, err := config.ParsePeriod(strings.TrimSpace(period))
		if err != nil || p <= 0 {
			return time.Time{}, fmt.Errorf("--for %q is not a period such as 8h or 5d", period)
		}
		return now.Add(time.Duration(p)), nil
	}
	return time.Time{}, errors.New("say when it ends, with --for or --until; a delegation has an end")
}
