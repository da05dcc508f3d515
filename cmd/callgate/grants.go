package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/console"
)

func newGrants() *cobra.Command {
	c := &cobra.Command{
		Use:   "grants",
		Short: "Let somebody call something, for a while",
		Long: `Grants are given while the service runs, beside those of the policy. A grant
lets the identities or groups that it names call the functions that it names;
whatever a rule denies or holds stays denied or held. Every grant, and who gave
it, stands in the audit trail, and a call that one lets through names it.`,
	}
	apiFlags(c.PersistentFlags())
	c.AddCommand(newGrantsList(), newGrantsAdd(), newGrantsRevoke())
	return c
}

func newGrantsList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List grants in force", Args: cobra.NoArgs}
	all := c.Flags().Bool("all", false, "also those that ended")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		list, err := api.Grants(c.Context(), *all)
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		rows := [][]string{{"ID", "WHO", "CONNECTIONS", "FUNCTIONS", "UNTIL", "BY", "REASON"}}
		for _, g := range list {
			rows = append(rows, []string{g.ID, grantees(g), strings.Join(g.Connections, ","), strings.Join(g.Functions, ","), until(g), g.Author, firstLine(g.Reason)})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

func grantees(g console.Grant) string {
	who := append([]string{}, g.Identities...)
	for _, group := range g.Groups {
		who = append(who, "group "+group)
	}
	return strings.Join(who, ", ")
}

func until(g console.Grant) string {
	switch {
	case !g.Revoked.IsZero():
		return "taken back " + g.Revoked.Local().Format(time.DateTime)
	case g.Until.IsZero():
		return "for good"
	}
	return g.Until.Local().Format(time.DateTime)
}

func newGrantsAdd() *cobra.Command {
	c := &cobra.Command{
		Use:   "add",
		Short: "Give a grant",
		Example: `  callgate grants add --identity alice --connection crm --function refunds.create --for 1h --reason INC-4711
  callgate grants add --group on-call --connection "db-*" --function sql.run --when 'sql.readonly(call.args.query)' --for 8h`,
		Args: cobra.NoArgs,
	}
	var g console.Grant
	c.Flags().StringSliceVar(&g.Identities, "identity", nil, "subject, or issuer|subject; may be repeated")
	c.Flags().StringSliceVar(&g.Groups, "group", nil, "group; may be repeated")
	c.Flags().StringSliceVar(&g.Actors, "actor", nil, "who may use it on behalf of its owner; \"*\" for anybody (default: the owner in person)")
	c.Flags().StringSliceVar(&g.Connections, "connection", nil, "connection, globs allowed; may be repeated")
	c.Flags().StringSliceVar(&g.Functions, "function", nil, "function, globs allowed; may be repeated")
	c.Flags().StringVar(&g.When, "when", "", "further condition, a CEL expression as in rules")
	c.Flags().StringVar(&g.Reason, "reason", "", "why; kept in the audit trail")
	lasts := c.Flags().String("for", "", "how long it lasts, such as 1h or 30d (default: until it is taken back)")
	end := c.Flags().String("until", "", "when it ends (RFC 3339)")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		if g.Until, err = ending(*lasts, *end); err != nil {
			return withCode(exitUsage, err)
		}
		given, err := api.GiveGrant(c.Context(), g)
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), given)
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%s: %s may call %s on %s, until %s\n", given.ID, printable(grantees(given)),
			printable(strings.Join(given.Functions, ", ")), printable(strings.Join(given.Connections, ", ")), until(given)); err != nil {
			return err
		}
		return toldBehind(c.ErrOrStderr(), given.Behind)
	}
	return c
}

// ending is when something ends that lasts so long, or until then.
func ending(lasts, end string) (time.Time, error) {
	switch {
	case lasts != "" && end != "":
		return time.Time{}, fmt.Errorf("give --for or --until, not both")
	case lasts != "":
		return inFuture(lasts)
	case end != "":
		t, err := time.Parse(time.RFC3339, end)
		if err != nil {
			return time.Time{}, fmt.Errorf("--until %q is no time such as 2026-12-24T18:00:00Z", end)
		}
		return t, nil
	}
	return time.Time{}, nil
}

func newGrantsRevoke() *cobra.Command {
	c := &cobra.Command{Use: "revoke ID", Short: "Take a grant back", Args: cobra.ExactArgs(1), Example: "  callgate grants revoke grt_k3j5m2n4p6q7r2s3 --reason \"done\""}
	reason := c.Flags().String("reason", "", "why; kept in the audit trail")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		late, err := api.TakeGrantBack(c.Context(), args[0], *reason)
		if err != nil {
			return answered(err)
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%s is taken back\n", printable(args[0])); err != nil {
			return err
		}
		return toldBehind(c.ErrOrStderr(), late)
	}
	return c
}
