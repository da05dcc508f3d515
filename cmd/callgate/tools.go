package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/control"
)

func newTools() *cobra.Command {
	c := &cobra.Command{
		Use:   "tools",
		Short: "What MCP servers say of their tools, and what of it is accepted",
		Long: `The definition of each tool of an MCP server is pinned by its hash. A tool that
is new, or is not described as it was accepted, stands in no caller's list, and
calls to it are denied or held, until somebody accepts the difference.`,
	}
	apiFlags(c.PersistentFlags())
	c.AddCommand(newToolsList(), newToolsDiff(), newToolsAccept(), newToolsForget())
	return c
}

// short is as much of a hash as people compare by eye.
func short(hash string) string { return hash[:min(len(hash), 12)] }

func newToolsList() *cobra.Command {
	c := &cobra.Command{Use: "list [CONNECTION]", Short: "List tools and how they stand", Args: cobra.MaximumNArgs(1)}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		list, err := toolsOf(c, args)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		rows := [][]string{{"CONNECTION", "TOOL", "STATE", "ACCEPTED", "OFFERED", "BY", "REASON"}}
		for _, t := range list {
			rows = append(rows, []string{t.Connection, t.Name, t.State, short(t.Accepted), short(t.Offered), t.Author, firstLine(t.Reason)})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

func toolsOf(c *cobra.Command, args []string) ([]console.Tool, error) {
	api, err := client(c)
	if err != nil {
		return nil, err
	}
	connection := ""
	if len(args) > 0 {
		connection = args[0]
	}
	list, err := api.Tools(c.Context(), connection)
	if err != nil {
		return nil, answered(err)
	}
	return list, nil
}

func newToolsDiff() *cobra.Command {
	c := &cobra.Command{Use: "diff [CONNECTION]", Short: "Show what is new or changed, nothing of it hidden",
		Long: `Shows tools that nobody has accepted and tools that are not described as they
were. Characters that a screen would not show, or would show elsewhere, are
written as \u{…}: texts that hide instructions from people, and not from models,
are made of them. Exit code 1 where there is a difference.`,
		Args: cobra.MaximumNArgs(1)}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		all, err := toolsOf(c, args)
		if err != nil {
			return err
		}
		list := []console.Tool{}
		for _, t := range all {
			if t.State == control.ToolNew || t.State == control.ToolChanged {
				list = append(list, t)
			}
		}
		if *asJSON {
			err = printJSON(c.OutOrStdout(), list)
		} else {
			err = printTools(c.OutOrStdout(), list)
		}
		if err == nil && len(list) > 0 {
			err = withCode(exitNo, fmt.Errorf("%d tools are not as they were accepted", len(list)))
		}
		return err
	}
	return c
}

func printTools(w io.Writer, list []console.Tool) error {
	var b strings.Builder
	accept := map[string][]string{}
	var connections []string
	for _, t := range list {
		fmt.Fprintf(&b, "%s %s: %s, offered as %s", printable(t.Connection), printable(t.Name), t.State, short(t.Offered))
		if t.Accepted != "" {
			fmt.Fprintf(&b, ", accepted as %s by %s", short(t.Accepted), printable(t.Author))
		}
		b.WriteString("\n")
		if t.Hidden > 0 {
			fmt.Fprintf(&b, "  ! %d characters that nobody would see\n", t.Hidden)
		}
		for _, d := range t.Changes {
			fmt.Fprintf(&b, "  %s\n", printable(d.Path))
			if d.Before != "" {
				fmt.Fprintf(&b, "    - %s\n", printable(d.Before))
			}
			if d.After != "" {
				fmt.Fprintf(&b, "    + %s\n", printable(d.After))
			}
		}
		if accept[t.Connection] == nil {
			connections = append(connections, t.Connection)
		}
		accept[t.Connection] = append(accept[t.Connection], quoted(t.Tool+"@"+t.Offered))
	}
	for _, name := range connections {
		fmt.Fprintf(&b, "\nTo accept all that is shown of %s:\n  callgate tools accept %s %s\n", name, name, strings.Join(accept[name], " "))
	}
	if len(list) == 0 {
		b.WriteString("All tools are as they were accepted.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// quoted is an argument as a shell takes it, if it has nothing unseen in it.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.@/:", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}

func newToolsAccept() *cobra.Command {
	c := &cobra.Command{Use: "accept CONNECTION TOOL@HASH...", Short: "Accept tools as they are offered now",
		Long: `The hash is that of what you saw (callgate tools diff prints the command), so that
what is offered since is not accepted with it.`,
		Args: cobra.MinimumNArgs(2), Example: "  callgate tools accept crm-tools search@9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --reason CHG-12"}
	reason := c.Flags().String("reason", "", "why; kept in the audit trail")
	c.RunE = func(c *cobra.Command, args []string) error {
		in := console.Accept{Reason: *reason}
		for _, a := range args[1:] {
			at := strings.LastIndexByte(a, '@')
			if at <= 0 || len(a)-at-1 != 64 {
				return withCode(exitUsage, fmt.Errorf("%q is not TOOL@HASH with the whole hash; callgate tools diff %s prints it", a, args[0]))
			}
			in.Tools = append(in.Tools, console.AcceptedTool{Tool: a[:at], Hash: a[at+1:]})
		}
		api, err := client(c)
		if err != nil {
			return err
		}
		late, err := api.AcceptTools(c.Context(), args[0], in)
		if err != nil {
			return answered(err)
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%d tools of %s are accepted as they are offered\n", len(in.Tools), printable(args[0])); err != nil {
			return err
		}
		return toldBehind(c.ErrOrStderr(), late)
	}
	return c
}

func newToolsForget() *cobra.Command {
	c := &cobra.Command{Use: "forget CONNECTION TOOL...", Short: "Forget tools that the server has no more",
		Long: `What was accepted of a tool stays pinned when the server offers it no more, so
that it can come back only as it was. Forgotten, it comes back as new, and
somebody has to accept it.`,
		Args: cobra.MinimumNArgs(2), Example: "  callgate tools forget crm-tools old_search --reason CHG-13"}
	reason := c.Flags().String("reason", "", "why; kept in the audit trail")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := client(c)
		if err != nil {
			return err
		}
		late, err := api.ForgetTools(c.Context(), args[0], console.Forget{Tools: args[1:], Reason: *reason})
		if err != nil {
			return answered(err)
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%d tools of %s are forgotten\n", len(args)-1, printable(args[0])); err != nil {
			return err
		}
		return toldBehind(c.ErrOrStderr(), late)
	}
	return c
}
