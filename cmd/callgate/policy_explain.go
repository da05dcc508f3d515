package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies"
	"github.com/callgate/callgate/policies/backtest"
	"github.com/callgate/callgate/policies/suite"
	"github.com/callgate/callgate/policies/trace"
)

// explainFlags say which call is explained.
type explainFlags struct {
	policy                []string
	call, test, input     string
	connection, function  string
	args, claims          string
	subject, issuer, kind string
	groups                []string
	session, source, now  string
	all                   bool
}

// largestInput bounds a call that is read from standard input, in bytes.
const largestInput = 64 << 20

func newPolicyExplain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain [TESTS|FOLDER...]",
		Short: "Tell why a call is decided as it is",
		Long: `Explain asks a policy about one call, and shows what came of every rule, in the
order in which they are asked: whether it looks at such calls, what its condition
came to, part by part, and which of them decided.

The call is one of the audit trail (--call), one of the tests beside the policy
(--test), one in YAML or JSON in the form that tests have (--input, - for
standard input), or is given by flags. What looks like a credential is not
shown. Of a recorded call, what is not in the record is not guessed at.

Exit codes: 0 fine, whatever is decided; 1 the decision can't be told for want of
what is not recorded; 2 wrong use or a wrong policy; 3 ClickHouse is away.`,
		Example: `  callgate policy explain --connection crm --function refunds.create --args '{"amount": 500}' --subject alice --group support
  callgate policy explain --call 01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d --policy policies.new/
  callgate policy explain --test "a large refund" policies/
  callgate policy explain --input - < call.yaml`,
	}
	var v explainFlags
	f := c.Flags()
	f.StringArrayVar(&v.policy, "policy", nil, "file or folder with the policy, instead of what -c names; may be repeated. Without connections in it, those of -c are used")
	f.StringVar(&v.call, "call", "", "a call of the audit trail, by its id")
	f.StringVar(&v.test, "test", "", "a test, by its name")
	f.StringVar(&v.input, "input", "", "file with a call, - for standard input")
	f.StringVar(&v.connection, "connection", "", "which connection")
	f.StringVar(&v.function, "function", "", "which function")
	f.StringVar(&v.args, "args", "", "arguments, a JSON object")
	f.StringVar(&v.subject, "subject", "", "who calls")
	f.StringVar(&v.issuer, "issuer", "", "who says so")
	f.StringVar(&v.kind, "kind", "", "human, ci, agent or workload (default human)")
	f.StringArrayVar(&v.groups, "group", nil, "a group of the caller; may be repeated")
	f.StringVar(&v.claims, "claims", "", "claims of the caller, a JSON object")
	f.StringVar(&v.session, "session", "", "the session that the call belongs to")
	f.StringVar(&v.source, "source", "", "the caller's IP address")
	f.StringVar(&v.now, "now", "", "when the call comes (RFC 3339; default: not said)")
	f.BoolVar(&v.all, "all", false, "show rules that look at other calls, too")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, paths []string) error {
		e, err := v.explain(c, paths)
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(c.OutOrStdout(), e)
		} else {
			err = e.Write(c.OutOrStdout(), v.all)
		}
		if err == nil && e.Decision == trace.Undecided {
			err = withCode(exitNo, errors.New("what would be decided can't be told: it depends on what is not recorded"))
		}
		return err
	}
	return c
}

func (v explainFlags) explain(c *cobra.Command, paths []string) (trace.Explanation, error) {
	var none trace.Explanation
	ways := 0
	for _, flag := range []string{"call", "test", "input", "function"} {
		if c.Flags().Changed(flag) {
			ways++
		}
	}
	if ways != 1 {
		return none, withCode(exitUsage, errors.New("say which call: one of --call, --test, --input, or --connection and --function"))
	}
	if v.test == "" && len(paths) > 0 {
		return none, withCode(exitUsage, fmt.Errorf("%s: files are for --test; --policy names a policy", strings.Join(paths, " ")))
	}
	if v.test != "" {
		return v.explainTest(c, paths)
	}
	policy, err := policyAt(c, v.policy)
	if err != nil {
		return none, err
	}
	if v.call != "" {
		return explainRecorded(c, policy, v.call)
	}
	t, err := v.read(c)
	if err != nil {
		return none, withCode(exitUsage, err)
	}
	return judged(c, policy, t)
}

func (v explainFlags) explainTest(c *cobra.Command, paths []string) (trace.Explanation, error) {
	policy, tests, err := testsAt(c, paths, v.policy)
	if err != nil {
		return trace.Explanation{}, err
	}
	var found []config.Test
	for _, t := range tests {
		if t.Name == v.test {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return judged(c, policy, found[0])
	case 0:
		return trace.Explanation{}, withCode(exitUsage, fmt.Errorf("no test is called %q; there are %d: policy test --verbose names them", v.test, len(tests)))
	}
	return trace.Explanation{}, withCode(exitUsage, fmt.Errorf("%d tests are called %q, the first two at %s and %s; name one file", len(found), v.test, found[0].Position, found[1].Position))
}

// judged asks the policy about a call that is written down.
func judged(c *cobra.Command, policy loadedPolicy, t config.Test) (trace.Explanation, error) {
	cfg, err := app.SuiteOf(c.Context(), policy.Policy, policy.set)
	if err != nil {
		return trace.Explanation{}, withCode(exitUsage, err)
	}
	asked, ruling, steps, err := suite.Judge(c.Context(), cfg, t)
	if err != nil {
		return trace.Explanation{}, withCode(exitUsage, err)
	}
	e, err := trace.Explain(&asked, ruling, steps)
	e.Notes = append(e.Notes, modeNote(policy, e.Connection)...)
	return e, err
}

// modeNote tells of a connection whose rules decide nothing.
func modeNote(policy loadedPolicy, connection string) []string {
	for _, c := range policy.Connections {
		if c.Name == connection && c.Mode == "shadow" {
			return []string{"the connection is in mode shadow: what the rules say is noted, and the call goes through"}
		}
	}
	return nil
}

// read reads the call that --input or the flags give.
func (v explainFlags) read(c *cobra.Command) (config.Test, error) {
	switch v.input {
	case "":
		doc, err := v.document()
		if err != nil {
			return config.Test{}, err
		}
		return config.ReadCall("flags", doc)
	case "-":
		data, err := io.ReadAll(io.LimitReader(c.InOrStdin(), largestInput+1))
		if err != nil {
			return config.Test{}, fmt.Errorf("read standard input: %w", err)
		}
		if len(data) > largestInput {
			return config.Test{}, fmt.Errorf("standard input is larger than %d bytes", largestInput)
		}
		return config.ReadCall("standard input", data)
	}
	data, err := os.ReadFile(v.input)
	if err != nil {
		return config.Test{}, fmt.Errorf("--input: %w", err)
	}
	return config.ReadCall(v.input, data)
}

// document writes down the call that flags give.
func (v explainFlags) document() ([]byte, error) {
	who := map[string]any{"subject": v.subject}
	what := map[string]any{"connection": v.connection, "function": v.function}
	put := func(to map[string]any, name, value string) {
		if value != "" {
			to[name] = value
		}
	}
	put(who, "issuer", v.issuer)
	put(who, "kind", v.kind)
	put(what, "session", v.session)
	put(what, "source", v.source)
	if len(v.groups) > 0 {
		who["groups"] = v.groups
	}
	for _, doc := range []struct {
		flag, text string
		to         map[string]any
	}{{"args", v.args, what}, {"claims", v.claims, who}} {
		switch {
		case doc.text == "":
		case !json.Valid([]byte(doc.text)):
			return nil, fmt.Errorf("--%s is no JSON", doc.flag)
		default:
			doc.to[doc.flag] = json.RawMessage(doc.text)
		}
	}
	out := map[string]any{"identity": who, "call": what}
	put(out, "now", v.now)
	return json.Marshal(out)
}

// explainRecorded asks the policy about a call of the audit trail.
func explainRecorded(c *cobra.Command, policy loadedPolicy, id string) (out trace.Explanation, err error) {
	callID, err := call.ParseID(id)
	if err != nil {
		return out, withCode(exitUsage, err)
	}
	db, err := openTrail(c)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	row, err := db.Call(c.Context(), callID)
	if err != nil {
		return out, unreachable(c, db, err)
	}
	rec := backtest.FromRow(&row)
	gaps := rec.Gaps(policy.set.Reads(row.Connection, row.Function))
	missing, why := make([]policies.Part, len(gaps)), make([]string, len(gaps))
	for i, g := range gaps {
		missing[i], why[i] = g.Part, g.String()
	}
	ruling, steps := policy.set.Trace(c.Context(), &rec.Call)
	known := true
	if len(missing) > 0 {
		said, err := policy.set.Assess(c.Context(), &rec.Call, missing)
		if err != nil {
			return out, err
		}
		if known = said.Known; known {
			ruling = said.Ruling
		}
	}
	if out, err = trace.Explain(&rec.Call, ruling, steps); err != nil {
		return out, err
	}
	out.Notes = append(append(out.Notes, recordedNote(&row, policy.Version)), modeNote(policy, out.Connection)...)
	out.Without(steps, missing, why, known)
	return out, nil
}

// recordedNote tells what was decided when the call came.
func recordedNote(row *clickhouse.Row, version string) string {
	text := fmt.Sprintf("recorded at %s: %s (%s)", row.Time.UTC().Format("2006-01-02T15:04:05.000Z"), row.Decision, row.Reason)
	if row.Rule != "" {
		text += fmt.Sprintf(" by rule %q", row.Rule)
	}
	text += " of policy " + row.PolicyVersion
	if row.PolicyVersion != version {
		text += ", which is another than is asked here"
	}
	return text
}
