package demo

import (
	"os"
	"path/filepath"
	"testing"
	"text/template"
	"time"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/suite"
)

// The demo's rules do what their tests say, every one of them is tried, and
// nothing is wrong with them.
func TestPolicy(t *testing.T) {
	dir := t.TempDir()
	for from, to := range map[string]string{"connections.yaml.tmpl": "connections.yaml", "rules.yaml": "rules.yaml", "rules_test.yaml": "rules_test.yaml"} {
		tmpl, err := template.ParseFS(files, from)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, to))
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{"REST": "https://127.0.0.1:1", "CA": "ca.pem", "MCP": "http://127.0.0.1:2/mcp", "GRPCUpstream": "https://127.0.0.1:3",
			"Investigator": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}
		if err := tmpl.Execute(f, values); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := config.PolicyFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := config.CheckPolicy(paths...)
	if err != nil {
		t.Fatal(err)
	}
	set, err := app.InspectPolicy(p, config.Approvers{Groups: []string{"refund-approvers"}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := app.LintPolicy(t.Context(), p, set, app.Around{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		// Some functions are there to be denied.
		if f.Check != "nothing-allowed" {
			t.Error(f)
		}
	}
	testFiles, err := config.TestFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := config.LoadTests(testFiles...)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := app.SuiteOf(t.Context(), p, set)
	if err != nil {
		t.Fatal(err)
	}
	report, err := suite.Run(t.Context(), cfg, tests)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if !r.Passed() {
			t.Errorf("%s: %s: %v %v", r.Test.Position, r.Test.Name, r.Differences, r.Err)
		}
	}
	if report.Coverage.Percent() < 100 {
		t.Errorf("the tests cover %.0f %% of the rules", report.Coverage.Percent())
	}
}
