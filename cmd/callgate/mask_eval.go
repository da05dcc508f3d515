package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extproc/mask"
	"github.com/callgate/callgate/extproc/mask/quality"
)

func newMaskEval() *cobra.Command {
	c := &cobra.Command{
		Use:   "eval FILE",
		Short: "Measure how well the detectors find what labelled texts hold",
		Long: `Eval masks labelled texts and tells, for each type, how many of its values were
hidden (recall), how much of what was hidden is of it (precision), and F1.

FILE has the form of presidio-research, one sample a line or a JSON array:

  {"full_text": "Pay 4111 1111 1111 1111", "spans": [
    {"entity_type": "CREDIT_CARD", "start_position": 4, "end_position": 23}]}

Positions count characters. entity_type is a detector's name or Presidio's name
for the same. A value counts as found if it is hidden to both ends as its type.

With --generate it measures a set of its own that comes from --seed; with --write
it writes that set instead. Exit code 1: an F1 is below --least.`,
		Example: "  callgate mask eval labelled.jsonl\n  callgate mask eval --generate 10000 --seed 3\n  callgate mask eval labelled.jsonl --detect card,employee_id --policy policies/mask.yaml --mistakes 20",
		Args:    cobra.MaximumNArgs(1),
	}
	asJSON := jsonFlag(c)
	f := c.Flags()
	detect := f.StringSlice("detect", []string{"all"}, "the detectors to measure")
	policy := f.String("policy", "", "a policy file whose own detectors may be named too")
	generate := f.Int("generate", 0, "measure so many samples made here instead of a file")
	seed := f.Uint64("seed", 1, "of the samples made here")
	out := f.Bool("write", false, "write the samples made here instead of measuring")
	mistakes := f.Int("mistakes", 0, "print so many mistakes, with the texts that they are about")
	least := f.Float64("least", 0, "the F1 that each type measured must reach")
	c.RunE = func(c *cobra.Command, args []string) error {
		samples, err := samplesOf(args, *generate, *seed)
		if err != nil {
			return err
		}
		if *out {
			return writeSamples(c.OutOrStdout(), samples)
		}
		m, err := maskerOf(*detect, *policy)
		if err != nil {
			return err
		}
		var wrong []quality.Mistake
		scores, err := quality.Measure(m, samples, func(m quality.Mistake) {
			if len(wrong) < *mistakes {
				wrong = append(wrong, m)
			}
		})
		if err != nil {
			return err
		}
		scores = slices.DeleteFunc(scores, func(s quality.Score) bool { // what was not asked for
			return !s.Unknown && !slices.ContainsFunc(*detect, func(d string) bool { return mask.Includes(d, s.Type) })
		})
		if err := printScores(c.OutOrStdout(), scores, wrong, *asJSON); err != nil {
			return err
		}
		for _, s := range scores {
			if s.F1 < *least && s.Labelled > 0 && !s.Unknown {
				return withCode(exitNo, fmt.Errorf("%s has an F1 of %.4f, below %.4f", s.Type, s.F1, *least))
			}
		}
		return nil
	}
	return c
}

func samplesOf(args []string, generate int, seed uint64) ([]quality.Sample, error) {
	switch {
	case generate > 0 && len(args) > 0 || generate <= 0 && len(args) == 0:
		return nil, withCode(exitUsage, fmt.Errorf("name a file of samples, or make some with --generate 10000"))
	case generate > 0:
		return quality.Generate(seed, generate), nil
	}
	file, err := os.Open(args[0])
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	defer file.Close()
	samples, err := quality.Read(file)
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("%s: %w", args[0], err))
	}
	return samples, nil
}

func writeSamples(w io.Writer, samples []quality.Sample) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, s := range samples {
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("write samples: %w", err)
		}
	}
	return nil
}

// maskerOf compiles the detectors to measure. Analyzers are left out: they are
// measured by their own tools.
func maskerOf(detect []string, policy string) (*mask.Masker, error) {
	custom := map[string]*mask.Custom{}
	if policy != "" {
		p, err := config.CheckPolicy(policy)
		if err != nil {
			return nil, withCode(exitUsage, err)
		}
		for _, d := range p.Detectors {
			if d.Analyzer.URL != "" {
				continue
			}
			c, err := mask.NewCustom(mask.Definition{Name: d.Name, Pattern: d.Pattern, Words: d.Words, MatchCase: d.MatchCase, Keys: d.Keys})
			if err != nil {
				return nil, withCode(exitUsage, fmt.Errorf("%s: detector %q: %w", d.Position, d.Name, err))
			}
			custom[d.Name] = c
		}
	}
	m, err := mask.Compile(mask.Spec{Rules: []mask.Rule{{Name: "eval", Detect: detect}}}, mask.Options{Custom: custom})
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	return m, nil
}

func printScores(w io.Writer, scores []quality.Score, wrong []quality.Mistake, asJSON bool) error {
	if asJSON {
		return printJSON(w, scores)
	}
	rows := [][]string{{"TYPE", "LABELLED", "FOUND", "WRONG", "PRECISION", "RECALL", "F1"}}
	for _, s := range scores {
		if s.Unknown {
			rows = append(rows, []string{s.Type, fmt.Sprint(s.Labelled), "no detector", "", "", "", ""})
			continue
		}
		rows = append(rows, []string{s.Type, fmt.Sprint(s.Labelled), fmt.Sprint(s.Found), fmt.Sprint(s.False),
			fmt.Sprintf("%.4f", s.Precision), fmt.Sprintf("%.4f", s.Recall), fmt.Sprintf("%.4f", s.F1)})
	}
	if err := table(w, rows); err != nil || len(wrong) == 0 {
		return err
	}
	slices.SortStableFunc(wrong, func(a, b quality.Mistake) int { return a.Sample - b.Sample })
	fmt.Fprintln(w)
	rows = [][]string{{"SAMPLE", "TYPE", "", "TEXT"}}
	for _, m := range wrong {
		what := "hidden wrongly"
		if m.Missed {
			what = "missed"
		}
		rows = append(rows, []string{fmt.Sprint(m.Sample), m.Type, what, m.Text})
	}
	return table(w, rows)
}
