package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/callgate/callgate/call"
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
	c.AddCommand(newApprovalsList(), newApprovalsShow(), newDecide("approve", true), newDecide("deny", false), newWatch(), newReview(), newDelegate())
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
		Example: "  callgate approvals list --json\n  callgate approvals list --mine\n  callgate approvals list --all --connection crm --since 24h\n  callgate approvals list --reviews",
		Args:    cobra.NoArgs,
	}
	var q console.Query
	all := c.Flags().Bool("all", false, "also those that ended")
	c.Flags().StringVar(&q.State, "state", "", "in this state: open, approved, refused, used, expired, canceled or broke_glass")
	c.Flags().BoolVar(&q.Mine, "mine", false, "that you may decide now")
	c.Flags().BoolVar(&q.Unreviewed, "reviews", false, "that broke glass and that nobody has reviewed")
	c.Flags().StringVar(&q.Connection, "connection", "", "of this connection")
	c.Flags().StringVar(&q.Function, "function", "", "of this function")
	c.Flags().StringVar(&q.Rule, "rule", "", "held by this rule")
	c.Flags().StringVar(&q.Subject, "subject", "", "asked for by, or for, this subject")
	since := c.Flags().String("since", "", "asked for since: how long ago (24h, 7d), a date or a time")
	asJSON := jsonFlag(c)
	c.MarkFlagsMutuallyExclusive("all", "state", "mine", "reviews")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		if *since != "" {
			if q.Since, err = parseWhen(*since, time.Now()); err != nil {
				return withCode(exitUsage, fmt.Errorf("--since: %w", err))
			}
		}
		if q.State == "" && !*all && !q.Unreviewed {
			q.State = "open"
		}
		list, err := api.Approvals(c.Context(), q)
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			if list == nil {
				list = []console.Approval{}
			}
			return printJSON(c.OutOrStdout(), list)
		}
		now := time.Now()
		rows := [][]string{{"ID", "STATE", "ASKED", "EXPIRES", "WHO", "FUNCTION", "RULE", "WAITS FOR"}}
		for _, a := range list {
			rows = append(rows, []string{a.ID, a.State, clock(a.AskedAt, now), clock(a.Expires, now),
				who(a), a.Connection + " " + a.Function, a.Rule, waits(a)})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

// clock is the time of day, with the date where that is not today's.
func clock(t, now time.Time) string {
	t = t.Local()
	if y, m, d := now.Local().Date(); t.Year() == y && t.Month() == m && t.Day() == d {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// waits says whom an approval waits for.
func waits(a console.Approval) string {
	switch {
	case a.State == "broke_glass" && a.Review == nil:
		return "review"
	case a.State != "open":
		return ""
	case a.Stages > 1:
		return fmt.Sprintf("%d of %s (stage %d of %d)", a.Missing, peopleOf(a.Approvers), a.Stage, a.Stages)
	}
	return fmt.Sprintf("%d of %s", a.Missing, peopleOf(a.Approvers))
}

func peopleOf(a call.Approvers) string { return strings.Join(slices.Concat(a.Groups, a.People), ", ") }

func newWatch() *cobra.Command {
	c := &cobra.Command{
		Use:   "watch",
		Short: "Show held calls as people are asked and decide",
		Long: `Watch shows the open approvals that concern you, and then each one whenever
something happens to it, until it is interrupted.`,
		Example: "  callgate approvals watch\n  callgate approvals watch --json | jq .id",
		Args:    cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		err = api.Watch(c.Context(), func(a console.Approval) error {
			if *asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(a)
			}
			text := fmt.Sprintf("%s  %s  %-9s %s %s for %s (%s)", time.Now().Format(time.TimeOnly), a.ID, a.State, a.Connection, printable(a.Function), printable(who(a)), printable(a.Rule))
			if w := waits(a); w != "" {
				text += ", waits for " + printable(w)
			}
			if a.DecidedBy != "" {
				text += ", decided by " + printable(decidedBy(a))
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), text)
			return err
		})
		switch {
		case c.Context().Err() != nil:
			return nil // interrupted, which is how it ends
		case err == nil:
			return withCode(exitUnreachable, errors.New("the service has ended the connection; start again"))
		}
		return answered(err)
	}
	return c
}

// decidedBy names those who said yes, or the one who said no.
func decidedBy(a console.Approval) string {
	if n := len(a.Decisions); n > 0 && !a.Decisions[n-1].Approved {
		return a.Decisions[n-1].By
	}
	return a.DecidedBy
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
		return table(c.OutOrStdout(), shown(a))
	}
	return c
}

// block lays a text of several lines out, each in a row of its own. Tabs, which
// could be taken for blanks, are spelt out.
func block(name, text string) [][]string {
	var rows [][]string
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\t", `\u{0009}`), "\n") {
		rows = append(rows, []string{name, line})
		name = ""
	}
	return rows
}

// bodyOf is the body as it is shown, or why it is not.
func bodyOf(a console.Approval) string {
	if a.BodyForm == "hidden" {
		return fmt.Sprintf("%d bytes that are not shown: there are credentials among them; the arguments are what was read of it", a.BodyLength)
	}
	return a.Body
}

// shown lays an approval out.
func shown(a console.Approval) [][]string {
	rows := [][]string{
		{"id", a.ID}, {"state", a.State}, {"call", a.CallID}, {"who", who(a)},
		{"function", a.Connection + " " + a.Function}, {"request", a.Method + " " + a.Path},
	}
	// An approval is for these, too.
	for _, part := range [][]string{{"host", a.Authority}, {"type", a.Type}, {"encoding", a.Encoding}} {
		if part[1] != "" {
			rows = append(rows, part)
		}
	}
	rows = append(rows, block("arguments", indented(string(a.Arguments)))...)
	rows = append(rows, block("body", bodyOf(a))...)
	if a.BodySHA256 != "" && a.BodyLength > 0 {
		rows = append(rows, []string{"SHA-256", a.BodySHA256})
	}
	rows = append(rows, []string{"rule", a.Rule}, []string{"message", a.Message}, []string{"asks", a.Asks})
	if w := waits(a); w != "" {
		rows = append(rows, []string{"waits for", w})
	}
	rows = append(rows, [][]string{
		{"asked", a.AskedAt.Local().Format(time.RFC3339)}, {"expires", a.Expires.Local().Format(time.RFC3339)},
	}...)
	if a.Hidden > 0 {
		rows = append(rows, []string{"hidden", fmt.Sprintf("%d of the values, which look like credentials", a.Hidden)})
	}
	if l := a.LastApproved; l != nil {
		rows = append(rows, []string{"compared with", fmt.Sprintf("%s, approved %s", l.ID, l.ApprovedAt.Local().Format(time.RFC3339))})
		if len(l.Changes) == 0 {
			rows = append(rows, []string{"", "the same call"})
		}
		for _, c := range l.Changes {
			was, is := c.Was, c.Is
			switch {
			case was == "":
				rows = append(rows, []string{"", "+ " + c.What + ": " + is})
			case is == "":
				rows = append(rows, []string{"", "- " + c.What + ": " + was})
			case was == is:
				rows = append(rows, []string{"", "~ " + c.What + ": another value, which is hidden"})
			default:
				rows = append(rows, []string{"", "~ " + c.What + ": " + was + " → " + is})
			}
		}
		if l.More > 0 {
			rows = append(rows, []string{"", fmt.Sprintf("and %d more", l.More)})
		}
	} else {
		rows = append(rows, []string{"compared with", "nothing: no call of theirs to this function has been approved before"})
	}
	if a.BreakGlass != "" {
		rows = append(rows, []string{"broke glass", a.BreakGlass})
	}
	for _, s := range a.History {
		text := s.At.Local().Format(time.RFC3339) + " " + string(s.Name)
		if s.By != "" {
			text += " by " + s.By
		}
		if s.For != "" {
			text += " in place of " + s.For
		}
		if s.Stage > 0 && a.Stages > 1 {
			text += fmt.Sprintf(", stage %d", s.Stage)
		}
		if s.Comment != "" {
			text += ": " + s.Comment
		}
		rows = append(rows, []string{"step", text})
	}
	return rows
}

func newDecide(verb string, approve bool) *cobra.Command {
	c := &cobra.Command{
		Use:     verb + " ID",
		Short:   strings.ToUpper(verb[:1]) + verb[1:] + " a held call",
		Example: "  callgate approvals " + verb + " apr_k3j5m2n4p6q7r2s3 --comment \"looked at it\"",
		Args:    cobra.ExactArgs(1),
	}
	comment := c.Flags().String("comment", "", "why; kept in the audit trail")
	grant, bounds := new(string), new(string)
	if approve {
		grant = c.Flags().String("grant", "", "let the requester go on calling this function for so long, such as 1h (up to the rule's hold.max_grant, or for control.administrators)")
		bounds = c.Flags().String("bounds", "", "with --grant: only calls for which this holds, such as 'call.args.amount <= 100'")
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		a, err := api.Decide(c.Context(), args[0], approve, console.Decision{Comment: *comment, Grant: *grant, Bounds: *bounds})
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), a)
		}
		if _, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s, by %s (%s %s for %s)\n", a.ID, a.State, printable(decidedBy(a)), a.Connection, printable(a.Function), printable(who(a))); err != nil {
			return err
		}
		if w := waits(a); w != "" {
			_, err = fmt.Fprintf(c.OutOrStdout(), "it waits for %s\n", printable(w))
		}
		if a.Grant != "" {
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: they may go on calling it\n", a.Grant)
		}
		return err
	}
	return c
}
