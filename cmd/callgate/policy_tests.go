package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/suite"
	"github.com/callgate/callgate/policies/trace"
)

// testFlags say what to run and how to tell of it.
type testFlags struct {
	policy      []string
	run, junit  string
	verbose     bool
	coverage    bool
	minCoverage float64
}

func newPolicyTest() *cobra.Command {
	c := &cobra.Command{
		Use:   "test [FILE|FOLDER...]",
		Short: "Run the tests that lie beside a policy",
		Long: `Test runs files of tests, whose names end in _test.yaml: calls, and what the
policy should say of them. A folder stands for its tests, and, unless --policy
names another, for the policy that is tested. Test files alone are about the
policy of --policy or of the configuration; without files, those beside it are
run.

A test's call names function and arguments, or is a request that the connection's
own parser reads. What fails is told with the reason, rule by rule.

Exit codes: 0 all pass, 1 some fail or too little is covered, 2 a file is wrong.`,
		Example: `  callgate policy test policies/
  callgate policy test --run refund --verbose policies/refunds_test.yaml --policy policies/
  callgate policy test --coverage --min-coverage 80 --junit report.xml`,
	}
	var v testFlags
	f := c.Flags()
	f.StringArrayVar(&v.policy, "policy", nil, "file or folder with the policy; may be repeated")
	f.StringVar(&v.run, "run", "", "run the tests whose name matches this regular expression only")
	f.BoolVarP(&v.verbose, "verbose", "v", false, "name the tests that pass, too")
	f.BoolVar(&v.coverage, "coverage", false, "tell which rules no test has decide, and which conditions were never true, or never false")
	f.Float64Var(&v.minCoverage, "min-coverage", 0, "fail where less than this share of the rules is covered, in percent")
	f.StringVar(&v.junit, "junit", "", "write a JUnit report to this file")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, paths []string) error {
		pattern, err := regexp.Compile(v.run)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("--run: %w", err))
		}
		if v.minCoverage < 0 || v.minCoverage > 100 {
			return withCode(exitUsage, errors.New("--min-coverage must be from 0 to 100"))
		}
		policy, tests, err := testsAt(c, paths, v.policy)
		if err != nil {
			return err
		}
		cfg, err := app.SuiteOf(c.Context(), policy.Policy, policy.set)
		if err != nil {
			return withCode(exitUsage, err)
		}
		cfg.Run = pattern
		report, err := suite.Run(c.Context(), cfg, tests)
		if err != nil {
			return err
		}
		if len(report.Results) == 0 {
			return withCode(exitUsage, fmt.Errorf("no test matches --run %q; there are %d", v.run, len(tests)))
		}
		return v.tell(c, report, *asJSON)
	}
	return c
}

// testsAt reads the policy that is tested and its tests.
func testsAt(c *cobra.Command, paths, policyPaths []string) (loadedPolicy, []config.Test, error) {
	if len(policyPaths) == 0 {
		// A folder, or a file that holds no tests, is the policy's.
		for _, p := range paths {
			if !config.IsTestFile(p) {
				policyPaths = append(policyPaths, p)
			}
		}
	}
	policy, err := policyAt(c, policyPaths)
	if err != nil {
		return policy, nil, err
	}
	if len(paths) == 0 {
		if paths, err = besidePolicy(c, policyPaths); err != nil {
			return policy, nil, err
		}
	}
	files, err := config.TestFiles(paths...)
	if err != nil {
		return policy, nil, withCode(exitUsage, err)
	}
	if len(files) == 0 {
		return policy, nil, withCode(exitUsage, fmt.Errorf("no tests in %s; they stand in files whose names end in _test.yaml", strings.Join(paths, ", ")))
	}
	tests, err := config.LoadTests(files...)
	return policy, tests, withCode(exitUsage, err)
}

// besidePolicy lists the folders in which a policy's files lie.
func besidePolicy(c *cobra.Command, policyPaths []string) ([]string, error) {
	var folders []string
	add := func(folder string) {
		if folder != "" && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	for _, p := range policyPaths {
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			add(filepath.Clean(p))
		} else {
			add(filepath.Dir(p))
		}
	}
	if len(policyPaths) == 0 {
		cfg, err := loadConfig(c)
		if err != nil {
			return nil, err
		}
		file, err := c.Flags().GetString("config")
		if err != nil {
			return nil, err
		}
		add(filepath.Dir(file))
		if cfg.PoliciesDir != "" {
			add(filepath.Clean(cfg.PoliciesDir))
		}
	}
	return folders, nil
}

func (v testFlags) tell(c *cobra.Command, r suite.Report, asJSON bool) error {
	if v.junit != "" {
		if err := writeJUnit(v.junit, r); err != nil {
			return err
		}
	}
	var err error
	if asJSON {
		var out testReport
		if out, err = testJSON(r); err == nil {
			err = printJSON(c.OutOrStdout(), out)
		}
	} else {
		err = v.print(c, r)
	}
	switch failed, percent := r.Failed(), r.Coverage.Percent(); {
	case err != nil:
		return err
	case failed > 0:
		return withCode(exitNo, fmt.Errorf("%d of %s failed", failed, counted(len(r.Results), "test")))
	case percent < v.minCoverage:
		return withCode(exitNo, fmt.Errorf("the tests cover %.1f %% of the rules, less than %g %%; --coverage tells which rules they leave out", percent, v.minCoverage))
	}
	return nil
}

func writeJUnit(file string, r suite.Report) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return withCode(exitUsage, fmt.Errorf("--junit: %w", err))
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return r.WriteJUnit(f)
}

func (v testFlags) print(c *cobra.Command, r suite.Report) error {
	var b strings.Builder
	for _, one := range r.Results {
		state := "PASS"
		if !one.Passed() {
			state = "FAIL"
		} else if !v.verbose {
			continue
		}
		fmt.Fprintf(&b, "--- %s: %s (%.3fs)\n", state, printable(one.Test.Name), one.Took.Seconds())
		if one.Passed() {
			continue
		}
		fmt.Fprintf(&b, "    %s\n", one.Test.Position)
		if one.Err != nil {
			fmt.Fprintf(&b, "    %s\n", printable(one.Err.Error()))
			continue
		}
		for _, d := range one.Differences {
			fmt.Fprintf(&b, "    %s\n", printable(d.String()))
		}
		why, err := explained(one)
		if err != nil {
			return err
		}
		b.WriteString("\n" + indentedBy("    ", why) + "\n")
	}
	if v.coverage || v.minCoverage > 0 {
		printCoverage(&b, r.Coverage)
	}
	state := "ok"
	if r.Failed() > 0 {
		state = "FAIL"
	}
	fmt.Fprintf(&b, "%s: %s, %d failed, %d of %s covered (%.1f %%), %.3fs\n", state, counted(len(r.Results), "test"), r.Failed(),
		r.Coverage.Covered(), counted(len(r.Coverage.Rules), "rule"), r.Coverage.Percent(), r.Took.Seconds())
	_, err := c.OutOrStdout().Write([]byte(b.String()))
	return err
}

// explained is why the call of a test was decided as it was.
func explained(r suite.Result) (string, error) {
	e, err := trace.Explain(&r.Call, r.Ruling, r.Steps)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = e.Write(&b, false)
	return b.String(), err
}

func indentedBy(indent, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(indent)
		}
		b.WriteString(line)
	}
	return b.String()
}

func printCoverage(b *strings.Builder, c suite.Coverage) {
	for _, r := range c.Rules {
		switch {
		case !r.Covered() && r.Matched+r.Missed+r.Failed == 0:
			fmt.Fprintf(b, "%s: rule %q: no test has it asked\n", r.Position, r.Name)
		case !r.Covered() && r.Matched == 0:
			fmt.Fprintf(b, "%s: rule %q: no test has its condition true\n", r.Position, r.Name)
		case !r.Covered():
			fmt.Fprintf(b, "%s: rule %q: no test has it decide\n", r.Position, r.Name)
		}
		for _, u := range r.Untried {
			fmt.Fprintf(b, "%s: rule %q: never %t in the tests: %s\n", r.Position, r.Name, !u.Only, strings.Join(strings.Fields(u.Text), " "))
		}
	}
}

// testReport is a report as JSON has it.
type testReport struct {
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Tests    []testOutcome `json:"tests"`
	Coverage []coveredRule `json:"coverage"`
	Percent  float64       `json:"coverage_percent"`
}

type testOutcome struct {
	Name        string             `json:"name"`
	File        string             `json:"file"`
	Line        int                `json:"line"`
	Passed      bool               `json:"passed"`
	Error       string             `json:"error,omitempty"`
	Decision    call.Action        `json:"decision,omitempty"`
	Rule        string             `json:"rule,omitempty"`
	Reason      call.Reason        `json:"reason,omitempty"`
	Differences []testDifference   `json:"differences,omitempty"`
	Explanation *trace.Explanation `json:"explanation,omitempty"` // of a test that failed
}

type testDifference struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

type coveredRule struct {
	Name       string   `json:"name"`
	Covered    bool     `json:"covered"`
	Decided    int      `json:"decided"`
	True       int      `json:"true"`
	False      int      `json:"false"`
	Failed     int      `json:"error"`
	NeverTrue  []string `json:"never_true,omitempty"`
	NeverFalse []string `json:"never_false,omitempty"`
}

func testJSON(r suite.Report) (testReport, error) {
	out := testReport{Failed: r.Failed(), Passed: len(r.Results) - r.Failed(), Percent: r.Coverage.Percent(), Coverage: []coveredRule{}}
	for _, one := range r.Results {
		o := testOutcome{Name: one.Test.Name, File: one.Test.Position.File, Line: one.Test.Position.Line, Passed: one.Passed(),
			Decision: one.Ruling.Action, Rule: one.Ruling.Rule, Reason: one.Ruling.Reason}
		for _, d := range one.Differences {
			o.Differences = append(o.Differences, testDifference(d))
		}
		if one.Err != nil {
			o.Error = one.Err.Error()
		} else if !one.Passed() {
			e, err := trace.Explain(&one.Call, one.Ruling, one.Steps)
			if err != nil {
				return out, err
			}
			o.Explanation = &e
		}
		out.Tests = append(out.Tests, o)
	}
	for _, one := range r.Coverage.Rules {
		covered := coveredRule{Name: one.Name, Covered: one.Covered(), Decided: one.Decided, True: one.Matched, False: one.Missed, Failed: one.Failed}
		for _, u := range one.Untried {
			if u.Only {
				covered.NeverFalse = append(covered.NeverFalse, u.Text)
			} else {
				covered.NeverTrue = append(covered.NeverTrue, u.Text)
			}
		}
		out.Coverage = append(out.Coverage, covered)
	}
	return out, nil
}
