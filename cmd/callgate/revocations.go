package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
)

func newRevocations() *cobra.Command {
	c := &cobra.Command{
		Use:   "revocations",
		Short: "End the validity of tokens before their time",
		Long: `A revocation makes every decision server refuse tokens from the moment that it
answers, those too that it has verified before: one token by its id (jti), all
of a subject, or all of an issuer, issued before a time.`,
	}
	apiFlags(c.PersistentFlags())
	c.AddCommand(newRevocationsList(), newRevocationsAdd(), newRevocationsLift())
	return c
}

func newRevocationsList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List revocations in force", Args: cobra.NoArgs}
	all := c.Flags().Bool("all", false, "also those that ended or were lifted")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		list, err := api.Revocations(c.Context(), *all)
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		rows := [][]string{{"ID", "TOKENS", "SINCE", "ENDS", "BY", "REASON"}}
		for _, r := range list {
			ends := "never"
			switch {
			case !r.Lifted.IsZero():
				ends = "lifted " + r.Lifted.Local().Format(time.DateTime)
			case !r.Expires.IsZero():
				ends = r.Expires.Local().Format(time.DateTime)
			}
			rows = append(rows, []string{r.ID, tokens(r), r.Created.Local().Format(time.DateTime), ends, r.Author, firstLine(r.Reason)})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

// tokens says which tokens a revocation is about.
func tokens(r console.Revocation) string {
	var parts []string
	add := func(what, v string) {
		if v != "" {
			parts = append(parts, what+" "+v)
		}
	}
	add("token", r.TokenID)
	add("subject", r.Subject)
	add("issuer", r.Issuer)
	if !r.IssuedBefore.IsZero() {
		add("issued before", r.IssuedBefore.Local().Format(time.DateTime))
	}
	return strings.Join(parts, ", ")
}

func newRevocationsAdd() *cobra.Command {
	c := &cobra.Command{
		Use:   "add",
		Short: "Revoke tokens",
		Example: `  callgate revocations add --token-id 7f9c24e8 --reason "posted in a chat"
  callgate revocations add --subject alice --issuer https://idp.example.com --reason "laptop stolen"
  callgate revocations add --issuer https://ci.example.com --issued-before 2026-11-23T10:00:00Z`,
		Args: cobra.NoArgs,
	}
	var r console.Revocation
	c.Flags().StringVar(&r.TokenID, "token-id", "", "one token's id (jti)")
	c.Flags().StringVar(&r.Subject, "subject", "", "all tokens of a subject")
	c.Flags().StringVar(&r.Issuer, "issuer", "", "of this issuer only; alone, all of its tokens")
	c.Flags().StringVar(&r.Reason, "reason", "", "why; kept in the audit trail")
	before := c.Flags().String("issued-before", "", "tokens issued before then (RFC 3339; default now, where no token id is given)")
	keep := c.Flags().String("for", "", "forget the revocation after this time, when no such token can be valid any more (default: keep it)")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		if *before != "" {
			if r.IssuedBefore, err = time.Parse(time.RFC3339, *before); err != nil {
				return withCode(exitUsage, fmt.Errorf("--issued-before %q is no time such as 2026-11-23T10:00:00Z", *before))
			}
		} else if r.TokenID == "" {
			// A token's issue time has whole seconds.
			r.IssuedBefore = time.Now().Add(time.Second).Truncate(time.Second)
		}
		if r.Expires, err = ending(*keep, ""); err != nil {
			return withCode(exitUsage, err)
		}
		made, err := api.Revoke(c.Context(), r)
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), made)
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%s: refused from now on: %s\n", made.ID, printable(tokens(made))); err != nil {
			return err
		}
		return toldBehind(c.ErrOrStderr(), made.Behind)
	}
	return c
}

// inFuture is the time after a period from now, such as 1h or 30d.
func inFuture(period string) (time.Time, error) {
	p, err := config.ParsePeriod(period)
	if err != nil || p <= 0 {
		return time.Time{}, fmt.Errorf("--for %q is no period such as 1h or 30d", period)
	}
	return time.Now().Add(time.Duration(p)), nil
}

func newRevocationsLift() *cobra.Command {
	c := &cobra.Command{Use: "lift ID", Short: "Take a revocation back", Args: cobra.ExactArgs(1)}
	reason := c.Flags().String("reason", "", "why; kept in the audit trail")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		late, err := api.Lift(c.Context(), args[0], *reason)
		if err != nil {
			return answered(err)
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%s is lifted\n", printable(args[0])); err != nil {
			return err
		}
		return toldBehind(c.ErrOrStderr(), late)
	}
	return c
}
