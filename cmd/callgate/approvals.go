package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/callgate/callgate/console"
)

func newApprovals() *cobra.Command {
	c := &cobra.Command{
		Use:   "approvals",
		Short: "See and decide calls that are held for a person",
		Long: `Approvals asks a running Callgate (--server) about held calls and decides them.

You act as yourself: with an OIDC token of your own, from CALLGATE_TOKEN or a
file. A token is never taken from the command line, where others could see it.`,
		Example: `  export CALLGATE_TOKEN=$(your-idp-login)
  callgate approvals list
  callgate approvals approve apr_k3j5m2n4p6q7r2s3 --comment "checked with the customer"`,
	}
	apiFlags(c.PersistentFlags())
	c.AddCommand(newApprovalsList(), newApprovalsShow(), newDecide("approve", true), newDecide("deny", false))
	return c
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// apiFlags adds what names the admin API and who asks it.
func apiFlags(f *pflag.FlagSet) {
	f.String("server", envOr("CALLGATE_SERVER", "http://127.0.0.1:8080"), "Callgate's admin API; CALLGATE_SERVER sets it too")
	f.String("token-file", os.Getenv("CALLGATE_TOKEN_FILE"), "file with your OIDC token; CALLGATE_TOKEN_FILE sets it too")
}

// errNoToken tells how to say who one is.
var errNoToken = withCode(exitUsage, errors.New("no token: set CALLGATE_TOKEN to an OIDC token of yours, or name a file with --token-file"))

// client builds a client of the admin API from the command's flags.
func client(c *cobra.Command) (*console.Client, error) {
	api, token, err := anyClient(c)
	if err == nil && !token {
		err = errNoToken
	}
	return api, err
}

// anyClient is client, but does without a token; it tells whether there is one.
func anyClient(c *cobra.Command) (api *console.Client, has bool, err error) {
	server, err := c.Flags().GetString("server")
	if err != nil {
		return nil, false, err
	}
	file, err := c.Flags().GetString("token-file")
	if err != nil {
		return nil, false, err
	}
	token := os.Getenv("CALLGATE_TOKEN")
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, false, withCode(exitUsage, fmt.Errorf("read your token: %w", err))
		}
		token = strings.TrimSpace(string(data))
	}
	return console.NewClient(server, token), token != "", nil
}

// answered gives the API's refusals their exit code.
func answered(err error) error {
	var refused console.Refused
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &refused):
		return withCode(exitUnreachable, err)
	case refused.Status == http.StatusServiceUnavailable:
		return withCode(exitUnreachable, err)
	default:
		return withCode(exitNo, err)
	}
}

func newApprovalsList() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List held calls that you may decide or asked for",
		Example: "  callgate approvals list --json\n  callgate approvals list --all",
		Args:    cobra.NoArgs,
	}
	all := c.Flags().Bool("all", false, "also those that ended")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		state := "open"
		if *all {
			state = ""
		}
		list, err := api.Approvals(c.Context(), state)
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			if list == nil {
				list = []console.Approval{}
			}
			return printJSON(c.OutOrStdout(), list)
		}
		rows := [][]string{{"ID", "STATE", "ASKED", "EXPIRES", "WHO", "FUNCTION", "RULE"}}
		for _, a := range list {
			rows = append(rows, []string{a.ID, a.State, a.AskedAt.Local().Format(time.TimeOnly), a.Expires.Local().Format(time.TimeOnly),
				who(a), a.Connection + " " + a.Function, a.Rule})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

// who names the requester, and for whom it acts.
func who(a console.Approval) string {
	if acting := a.Requester.Acting(); acting != a.Requester.Subject {
		return acting + " for " + a.Requester.Subject
	}
	return a.Requester.Subject
}

func newApprovalsShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one held call with the exact request",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		a, err := api.Approval(c.Context(), args[0])
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), a)
		}
		return table(c.OutOrStdout(), [][]string{
			{"id", a.ID}, {"state", a.State}, {"call", a.CallID}, {"who", who(a)},
			{"function", a.Connection + " " + a.Function}, {"request", a.Method + " " + a.Path},
			{"arguments", string(a.Arguments)}, {"body", a.Body}, {"rule", a.Rule}, {"message", a.Message},
			{"approvers", strings.Join(append(a.Approvers.Groups, a.Approvers.People...), ", ")},
			{"asked", a.AskedAt.Local().Format(time.RFC3339)}, {"expires", a.Expires.Local().Format(time.RFC3339)},
			{"decided by", a.DecidedBy}, {"comment", a.Comment},
		})
	}
	return c
}

func newDecide(verb string, approve bool) *cobra.Command {
	c := &cobra.Command{
		Use:     verb + " ID",
		Short:   strings.ToUpper(verb[:1]) + verb[1:] + " a held call",
		Example: "  callgate approvals " + verb + " apr_k3j5m2n4p6q7r2s3 --comment \"looked at it\"",
		Args:    cobra.ExactArgs(1),
	}
	comment := c.Flags().String("comment", "", "why; kept in the audit trail")
	grant := new(string)
	if approve {
		grant = c.Flags().String("grant", "", "let the requester go on calling this function for so long, such as 1h (for control.administrators)")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		a, err := api.Decide(c.Context(), args[0], approve, *comment, *grant)
		if err != nil {
			return answered(err)
		}
		if _, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s, by %s (%s %s for %s)\n", a.ID, a.State, printable(a.DecidedBy), a.Connection, printable(a.Function), printable(who(a))); err != nil || a.Grant == "" {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: they may call it for %s\n", a.Grant, *grant)
		return err
	}
	return c
}
