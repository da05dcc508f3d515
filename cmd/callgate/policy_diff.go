package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/difference"
)

// storedPrefix marks a version that the control plane keeps.
const storedPrefix = "version:"

func newPolicyDiff() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD [NEW]",
		Short: "Tell what changes between two policies, and what that means",
		Long: `Diff compares two policies: each a file, a folder, several of either separated by
commas, or version:ID for one that was pushed. Without NEW it compares with the
policy of the configuration.

It tells which connections, rules and grants were added, removed or changed,
setting by setting; whether that lets more calls through or fewer; and which
resources Envoy gets otherwise. Layout, comments and the order of keys make no
difference; the order of rules does where two that changed places can decide the
same call.

Exit codes: 0 the same, 1 different, 2 one of them can't be used, 3 the control
plane can't be reached.`,
		Example: `  callgate policy diff policies/ policies.new/
  callgate policy diff version:3f9d2c81a0b4 policies/ --json`,
		Args: cobra.RangeArgs(1, 2),
	}
	apiFlags(c.Flags())
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		folder, err := os.MkdirTemp("", "callgate-diff-")
		if err != nil {
			return fmt.Errorf("make a folder for stored policies: %w", err)
		}
		defer os.RemoveAll(folder)
		was, err := sideOf(c, args[0], filepath.Join(folder, "old"))
		if err != nil {
			return fmt.Errorf("OLD: %w", err)
		}
		now := ""
		if len(args) > 1 {
			now = args[1]
		}
		is, err := sideOf(c, now, filepath.Join(folder, "new"))
		if err != nil {
			return fmt.Errorf("NEW: %w", err)
		}
		changes, err := difference.Compare(c.Context(), difference.Side{Policy: was.Policy, Set: was.set}, difference.Side{Policy: is.Policy, Set: is.set})
		if err != nil {
			return err
		}
		out := policyDifference{Old: was.Version, New: is.Version, Changes: []policyChange{}, Envoy: []app.ResourceChange{}}
		if resources, err := app.CompareEnvoy(is.envoy, was.Policy, is.Policy); err != nil {
			out.Note = fmt.Sprintf("what changes for Envoy can't be told: %v", err)
		} else if len(resources) > 0 {
			out.Envoy = resources
		}
		for _, one := range changes {
			out.Changes = append(out.Changes, changeJSON(one))
		}
		out.Same = len(changes) == 0 && len(out.Envoy) == 0
		if *asJSON {
			err = printJSON(c.OutOrStdout(), out)
		} else {
			err = printDifference(c, out, changes)
		}
		if err == nil && !out.Same {
			err = withCode(exitNo, errors.New("the policies differ"))
		}
		return err
	}
	return c
}

// sideOf reads one of the policies; an empty text stands for that of the
// configuration. The files of one that was pushed are laid out in folder.
func sideOf(c *cobra.Command, what, folder string) (loadedPolicy, error) {
	id, stored := strings.CutPrefix(what, storedPrefix)
	if !stored {
		var paths []string
		if what != "" {
			paths = strings.Split(what, ",")
		}
		return policyAt(c, paths)
	}
	out := loadedPolicy{approvers: somebody, envoy: defaultEnvoy()}
	api, err := client(c)
	if err != nil {
		return out, err
	}
	p, err := api.StoredPolicy(c.Context(), id)
	if err != nil {
		return out, answered(err)
	}
	bundle := config.Bundle{Files: p.Files, References: p.References}
	if out.Policy, err = bundle.Policy(folder, folder); err != nil {
		return out, withCode(exitUsage, fmt.Errorf("version %s can't be read by this callgate:\n%w", id, err))
	}
	if out.set, err = app.InspectPolicy(out.Policy, out.approvers); err != nil {
		return out, withCode(exitUsage, fmt.Errorf("version %s can't be read by this callgate:\n%w", id, err))
	}
	return out, nil
}

// defaultEnvoy stands for the settings of a configuration that is not at hand.
func defaultEnvoy() config.Envoy {
	return config.Envoy{Listen: "127.0.0.1:10000", Services: "127.0.0.1:9191", DecideTimeout: 2 * time.Second}
}

func printDifference(c *cobra.Command, d policyDifference, changes []difference.Change) error {
	var b strings.Builder
	for _, one := range changes {
		b.WriteString(printable(one.String()) + "\n")
		for _, why := range one.Why {
			fmt.Fprintf(&b, "    %s\n", printable(why))
		}
		for _, f := range one.Fields {
			fmt.Fprintf(&b, "    %s: %s → %s\n", printable(f.Path), setting(f.Old), setting(f.New))
		}
	}
	for _, r := range d.Envoy {
		fmt.Fprintf(&b, "Envoy: %s %q %s\n", r.Type, r.Name, r.What)
	}
	if d.Note != "" {
		b.WriteString(printable(d.Note) + "\n")
	}
	if d.Same {
		b.WriteString("the policies say the same\n")
	} else {
		fmt.Fprintf(&b, "%s, version %s → %s\n", counted(len(changes), "change"), d.Old, d.New)
	}
	_, err := c.OutOrStdout().Write([]byte(b.String()))
	return err
}

func setting(v string) string {
	if v == "" {
		return "(not set)"
	}
	return printable(strings.Join(strings.Fields(v), " "))
}

// policyDifference is what differs, as JSON has it.
type policyDifference struct {
	Same    bool                 `json:"same"`
	Old     string               `json:"old_version"`
	New     string               `json:"new_version"`
	Changes []policyChange       `json:"changes"`
	Envoy   []app.ResourceChange `json:"envoy"`
	Note    string               `json:"note,omitempty"`
}

type policyChange struct {
	Kind   string             `json:"kind"`
	Name   string             `json:"name"`
	What   string             `json:"what"`
	Effect difference.Effect  `json:"effect"`
	Why    []string           `json:"why,omitempty"`
	Fields []difference.Field `json:"fields,omitempty"`
	Old    string             `json:"old_at,omitempty"`
	New    string             `json:"new_at,omitempty"`
}

func changeJSON(c difference.Change) policyChange {
	return policyChange{c.Kind, c.Name, c.What, c.Effect, c.Why, c.Fields, c.Old.String(), c.New.String()}
}
