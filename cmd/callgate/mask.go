package main

import (
	"github.com/spf13/cobra"

	"github.com/callgate/callgate/extproc/mask"
)

func newMask() *cobra.Command {
	c := &cobra.Command{Use: "mask", Short: "What masking can find, and how well"}
	c.AddCommand(newMaskDetectors(), newMaskEval())
	return c
}

func newMaskDetectors() *cobra.Command {
	c := &cobra.Command{
		Use:   "detectors",
		Short: "List the detectors that mask.detect can name",
		Long: `Detectors lists what mask.detect can name, besides the detectors of your own
that stand under detectors: in a policy. phone_ and a country's code in lower
case is one too: phone_us finds numbers as they are written in that country.`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		type entry struct {
			Name  string `json:"name"`
			Finds string `json:"finds"`
		}
		var list []entry
		rows := [][]string{{"NAME", "FINDS"}}
		for _, d := range mask.Detectors() {
			list = append(list, entry(d))
			rows = append(rows, []string{d.Name, d.Finds})
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}
