package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
)

func newPolicyPush() *cobra.Command {
	c := &cobra.Command{
		Use:   "push FILE|DIRECTORY...",
		Short: "Make a policy decide, everywhere at once",
		Long: `Push checks the files as one policy, here and again on the control plane, which
stores it with your name and message, gives it to every decision server and
Envoy, and tells who has not answered. Where one of them refuses it, everything
stays as it was.

Files are taken whole, those in a directory that end in .yaml or .yml, and with
them the certificates, descriptors and schemas that they name. Secrets stay
where they are: they are read on the decision servers.

With --percent or --nodes the policy decides for some callers or some Envoys
only, until "policy promote" or "policy abort".`,
		Example: `  export CALLGATE_TOKEN=$(your-idp-login)
  callgate policy push policies/ -m "refunds over 500 need two"
  callgate policy push policies/ --percent 5 -m "try the new guardrail"
  callgate policy push policies/ --nodes track=canary`,
		Args: cobra.MinimumNArgs(1),
	}
	apiFlags(c.Flags())
	message := c.Flags().StringP("message", "m", "", "why; kept with the version and in the audit trail")
	percent := c.Flags().Int("percent", 0, "share of callers, 1 to 99, that the policy decides for at first")
	nodes := c.Flags().String("nodes", "", "Envoys that run the policy at first: name=glob pairs over id, cluster and node metadata")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, paths []string) error {
		files, err := config.PolicyFiles(paths...)
		if err != nil {
			return withCode(exitUsage, err)
		}
		bundle, policy, err := config.ReadBundle(files...)
		if err == nil {
			// Who decides by default stands in another file; somebody does.
			err = app.CheckPolicy(policy, config.Approvers{Groups: []string{"approvers"}})
		}
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("the policy can't go live:\n%w", err))
		}
		api, err := client(c)
		if err != nil {
			return err
		}
		out, err := api.Push(c.Context(), console.Push{Files: bundle.Files, References: bundle.References, Message: *message, Percent: *percent, Nodes: *nodes})
		if err != nil {
			return answered(err)
		}
		return toldRollout(c, out, *asJSON)
	}
	return c
}

// toldRollout prints what became of a change.
func toldRollout(c *cobra.Command, r console.Rollout, asJSON bool) error {
	if asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	var text string
	switch {
	case r.Unchanged:
		text = fmt.Sprintf("%s decides already; nothing changed", r.Version)
	case r.Canary != "" && r.Nodes != "":
		text = fmt.Sprintf("%s runs on Envoys with %s, %s on the others", r.Canary, r.Nodes, r.Version)
	case r.Canary != "":
		text = fmt.Sprintf("%s decides for %d%% of callers, %s for the others", r.Canary, r.Percent, r.Version)
	default:
		text = fmt.Sprintf("%s decides", r.Version)
	}
	if _, err := fmt.Fprintln(c.OutOrStdout(), text); err != nil {
		return err
	}
	return toldBehind(c.ErrOrStderr(), r.Behind)
}

// toldBehind names who has not answered yet.
func toldBehind(w io.Writer, nodes []string) error {
	if len(nodes) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "callgate: not answered yet: %s; they get it as soon as they can be reached (callgate policy status)\n", strings.Join(nodes, ", "))
	return err
}

// newRolling makes a command that changes what decides.
func newRolling(use, short, long string, do func(context.Context, *console.Client, console.Change) (console.Rollout, error), args cobra.PositionalArgs) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: args}
	apiFlags(c.Flags())
	message := c.Flags().StringP("message", "m", "", "why; kept in the audit trail")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		in := console.Change{Message: *message}
		if len(args) > 0 {
			in.Version = args[0]
		}
		out, err := do(c.Context(), api, in)
		if err != nil {
			return answered(err)
		}
		return toldRollout(c, out, *asJSON)
	}
	return c
}

func newPolicyRollback() *cobra.Command {
	c := newRolling("rollback [VERSION]", "Make an earlier version decide again",
		"Rollback makes a version that decided before do so again: the one before the\npresent one, or the one that is named. A canary ends.",
		func(ctx context.Context, api *console.Client, in console.Change) (console.Rollout, error) {
			return api.Rollback(ctx, in)
		}, cobra.MaximumNArgs(1))
	c.Example = "  callgate policy rollback -m \"denies the night jobs\"\n  callgate policy rollback 3f9d2c81a0b4"
	return c
}

func newPolicyPromote() *cobra.Command {
	return newRolling("promote", "Make the canary decide for all", "",
		func(ctx context.Context, api *console.Client, in console.Change) (console.Rollout, error) {
			return api.EndCanary(ctx, true, in)
		}, cobra.NoArgs)
}

func newPolicyAbort() *cobra.Command {
	return newRolling("abort", "End the canary; the version before decides for all", "",
		func(ctx context.Context, api *console.Client, in console.Change) (console.Rollout, error) {
			return api.EndCanary(ctx, false, in)
		}, cobra.NoArgs)
}

func newPolicyStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell which version decides, and who runs it",
		Long: `Status asks the control plane which policy version decides, and what each
connected decision server and Envoy says of it. The exit code is 1 where one of
them has refused it or not answered yet.`,
		Example: "  callgate policy status\n  callgate policy status --json | jq .envoys",
		Args:    cobra.NoArgs,
	}
	apiFlags(c.Flags())
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		s, err := api.Status(c.Context())
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			if err := printJSON(c.OutOrStdout(), s); err != nil {
				return err
			}
			return lagging(s)
		}
		head := [][]string{{"policy", s.PolicyVersion}}
		if r := s.Rollout; r != nil {
			head = append(head, []string{"since", r.At.Local().Format(time.RFC3339)}, []string{"by", r.Author + " (" + r.Action + ")"}, []string{"message", r.Message})
			if r.Canary != "" {
				head = append(head, []string{"canary", r.Canary + " " + share(*r)})
			}
		}
		if err := table(c.OutOrStdout(), head); err != nil {
			return err
		}
		rows := [][]string{{"", "", "", "", ""}, {"NODE", "KIND", "RUNS", "SINCE", "STATE"}}
		add := func(kind string, list []console.Envoy) {
			for _, n := range list {
				rows = append(rows, []string{n.Node, kind, n.Version, n.Since.Local().Format(time.TimeOnly), state(n)})
			}
		}
		add("server", s.Servers)
		add("envoy", s.Envoys)
		if len(rows) == 2 {
			rows = [][]string{{"no Envoy or decision server is connected"}}
		}
		if err := table(c.OutOrStdout(), rows); err != nil {
			return err
		}
		return lagging(s)
	}
	return c
}

// share says for whom a canary decides.
func share(r console.Rollout) string {
	if r.Nodes != "" {
		return "on Envoys with " + r.Nodes
	}
	return "for " + strconv.Itoa(r.Percent) + "% of callers"
}

func state(n console.Envoy) string {
	switch {
	case n.Refused != "":
		return "refused: " + n.Refused
	case n.Pending != "":
		return "has not answered to " + n.Pending
	}
	return "ok"
}

func lagging(s console.Status) error {
	for _, n := range slices.Concat(s.Servers, s.Envoys) {
		if n.Refused != "" || n.Pending != "" {
			return withCode(exitNo, fmt.Errorf("%s %s", n.Node, state(n)))
		}
	}
	return nil
}

func newPolicyHistory() *cobra.Command {
	c := &cobra.Command{
		Use:   "history",
		Short: "List what decided, and who made it so",
		Args:  cobra.NoArgs,
	}
	apiFlags(c.Flags())
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		list, err := api.History(c.Context())
		if err != nil {
			return answered(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		rows := [][]string{{"WHEN", "WHAT", "VERSION", "CANARY", "BY", "MESSAGE"}}
		for _, r := range list {
			canary := r.Canary
			if r.Action == "canary" {
				canary += " " + share(r)
			}
			rows = append(rows, []string{r.At.Local().Format(time.DateTime), r.Action, r.Version, canary, r.Author, firstLine(r.Message)})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

func firstLine(s string) string {
	line, rest, _ := strings.Cut(s, "\n")
	if rest != "" {
		line += " …"
	}
	return line
}

func newPolicyShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show VERSION",
		Short:   "Print a stored version, or write its files to a directory",
		Example: "  callgate policy show 3f9d2c81a0b4\n  callgate policy show 3f9d2c81a0b4 -o old/ && callgate policy diff old/ policies/",
		Args:    cobra.ExactArgs(1),
	}
	apiFlags(c.Flags())
	dir := c.Flags().StringP("output", "o", "", "directory to write the files to, made where it is missing")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		p, err := api.StoredPolicy(c.Context(), args[0])
		if err != nil {
			return answered(err)
		}
		if *dir == "" {
			for _, f := range p.Files {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "# %s\n%s\n", printable(f.Name), f.Content); err != nil {
					return err
				}
			}
			return nil
		}
		root, err := os.OpenRoot(*dir)
		if os.IsNotExist(err) {
			if err = os.MkdirAll(*dir, 0o755); err == nil {
				root, err = os.OpenRoot(*dir)
			}
		}
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("write the policy: %w", err))
		}
		defer root.Close()
		write := func(name string, content []byte) error {
			// A root keeps names of the policy's from leading elsewhere.
			if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			if err := root.WriteFile(name, content, 0o644); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			return nil
		}
		for _, f := range p.Files {
			if err := write(f.Name, f.Content); err != nil {
				return err
			}
		}
		for _, r := range p.References {
			if err := write(r.Path, r.Content); err != nil {
				fmt.Fprintf(c.ErrOrStderr(), "callgate: %s is left out: %v\n", printable(r.Path), err)
			}
		}
		return nil
	}
	return c
}
