package suite_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/suite"
)

var guideFile = regexp.MustCompile("(?ms)^```yaml\n# policies/(\\S+)\n(.*?)^```$")

// The guide's files do what the guide says.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/policy-tests.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range guideFile.FindAllSubmatch(guide, -1) {
		if err := os.WriteFile(filepath.Join(dir, string(m[1])), m[2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := config.PolicyFiles(dir)
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	p, err := config.CheckPolicy(files...)
	if err != nil {
		t.Fatal(err)
	}
	set, err := app.InspectPolicy(p, config.Approvers{})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := app.LintPolicy(t.Context(), p, set, app.Around{}, time.Now()); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
	tests, err := config.LoadTests(filepath.Join(dir, "rules_test.yaml"))
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
			t.Errorf("%s: %v %v", r.Test.Name, r.Differences, r.Err)
		}
	}
	if len(tests) != 8 || report.Coverage.Percent() != 100 || len(report.Coverage.Rules) != 5 {
		t.Errorf("%d tests cover %.1f %% of %d rules", len(tests), report.Coverage.Percent(), len(report.Coverage.Rules))
	}
}
