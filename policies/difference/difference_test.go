package difference_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/policies/difference"
)

const connections = `
connections:
  - name: crm
    protocol: http
    upstream: {url: "https://crm.internal"}
    functions: [{name: refunds.create, method: POST, path: /refunds}, {name: refunds.list, method: GET, path: /refunds}]
    mask: [{name: cards, detect: [card]}]
  - {name: tools, protocol: mcp, match: {path: /mcp}, upstream: {url: "https://tools.internal"}}
`

func side(t *testing.T, text string) difference.Side {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := config.CheckPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	set, err := app.InspectPolicy(p, config.Approvers{Groups: []string{"approvers"}})
	if err != nil {
		t.Fatal(err)
	}
	return difference.Side{Policy: p, Set: set}
}

func compare(t *testing.T, was, is string) string {
	t.Helper()
	changes, err := difference.Compare(t.Context(), side(t, was), side(t, is))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.Kind+" "+c.Name+" "+c.What+" "+string(c.Effect))
		if len(c.Why) == 0 && c.Kind != "connection" {
			t.Errorf("%+v does not say what it means", c)
		}
	}
	return strings.Join(got, ", ")
}

func TestRules(t *testing.T) {
	for name, c := range map[string]struct{ was, is, want string }{
		"the same":                 {`- {name: a, action: allow, when: call.args.x > 1}`, `- {name: a, action: allow, when: call.args.x > 1}`, ""},
		"layout":                   {`- {name: a, action: allow, when: call.args.x>1}`, "# why\n- when: 'call.args.x   > 1'\n  action: allow\n  name: a", ""},
		"order of names":           {`- {name: a, action: allow, functions: [refunds.create, refunds.list]}`, `- {name: a, action: allow, functions: [refunds.list, refunds.create]}`, ""},
		"added":                    {``, `- {name: a, action: allow}`, "rule a added widens"},
		"added deny":               {``, `- {name: a, action: deny}`, "rule a added narrows"},
		"added hold":               {``, `- {name: a, action: hold}`, "rule a added either"},
		"added mask":               {``, `- {name: a, action: mask, mask: {keys: [k]}}`, "rule a added narrows"},
		"added in shadow":          {``, `- {name: a, action: allow, shadow: true}`, "rule a added neither"},
		"removed":                  {`- {name: a, action: allow}`, ``, "rule a removed narrows"},
		"removed deny":             {`- {name: a, action: deny}`, ``, "rule a removed widens"},
		"allow lost its condition": {`- {name: a, action: allow, when: call.args.x > 1}`, `- {name: a, action: allow}`, "rule a changed widens"},
		"deny lost its condition":  {`- {name: a, action: deny, when: call.args.x > 1}`, `- {name: a, action: deny}`, "rule a changed narrows"},
		"allow got a condition":    {`- {name: a, action: allow}`, `- {name: a, action: allow, when: call.args.x > 1}`, "rule a changed narrows"},
		"allow of more":            {`- {name: a, action: allow, when: call.args.x < 5}`, `- {name: a, action: allow, when: call.args.x < 10}`, "rule a changed widens"},
		"deny of less":             {`- {name: a, action: deny, when: call.args.x > 5}`, `- {name: a, action: deny, when: call.args.x > 10}`, "rule a changed widens"},
		"another condition":        {`- {name: a, action: allow, when: call.args.x > 5}`, `- {name: a, action: allow, when: call.args.y > 5}`, "rule a changed either"},
		"the same in other words":  {`- {name: a, action: allow, when: call.args.x > 5}`, `- {name: a, action: allow, when: 5 < call.args.x}`, "rule a changed neither"},
		"more functions":           {`- {name: a, action: allow, functions: [refunds.list]}`, `- {name: a, action: allow, functions: [refunds.*]}`, "rule a changed widens"},
		"fewer connections":        {`- {name: a, action: allow}`, `- {name: a, action: allow, connections: [crm]}`, "rule a changed narrows"},
		"other functions":          {`- {name: a, action: allow, functions: [refunds.list]}`, `- {name: a, action: allow, functions: [refunds.create]}`, "rule a changed either"},
		"wider and narrower":       {`- {name: a, action: allow, functions: [refunds.list]}`, `- {name: a, action: allow, when: call.args.x > 1}`, "rule a changed either"},
		"deny becomes allow":       {`- {name: a, action: deny}`, `- {name: a, action: allow}`, "rule a changed widens"},
		"deny into shadow":         {`- {name: a, action: deny}`, `- {name: a, action: deny, shadow: true}`, "rule a changed widens"},
		"allow out of shadow":      {`- {name: a, action: allow, shadow: true}`, `- {name: a, action: allow}`, "rule a changed widens"},
		"message":                  {`- {name: a, action: deny}`, `- {name: a, action: deny, message: no}`, "rule a changed neither"},
		"more approvals":           {`- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}, need: 2}}`, "rule a changed narrows"},
		"fewer approvals":          {`- {name: a, action: hold, hold: {approvers: {groups: [a]}, need: 3}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}, need: 2}}`, "rule a changed widens"},
		"a stage more":             {`- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, `- {name: a, action: hold, hold: {stages: [{groups: [a]}, {groups: [b]}]}}`, "rule a changed either"},
		"break glass":              {`- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}, break_glass: {groups: [x]}}}`, "rule a changed widens"},
		"break glass for others":   {`- {name: a, action: hold, hold: {approvers: {groups: [a]}, break_glass: {groups: [y]}}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}, break_glass: {groups: [x]}}}`, "rule a changed either"},
		"no break glass":           {`- {name: a, action: hold, hold: {approvers: {groups: [a]}, break_glass: {groups: [y]}}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, "rule a changed narrows"},
		"a reason":                 {`- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}, reason: required}}`, "rule a changed neither"},
		"grants":                   {`- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}, max_grant: 1h}}`, "rule a changed widens"},
		"no grants":                {`- {name: a, action: hold, hold: {approvers: {groups: [a]}, max_grant: 1h}}`, `- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, "rule a changed narrows"},
		"approvers":                {`- {name: a, action: hold, hold: {approvers: {groups: [a]}}}`, `- {name: a, action: hold, hold: {approvers: {groups: [b]}}}`, "rule a changed either"},
		"renamed":                  {`- {name: a, action: allow}`, `- {name: b, action: allow}`, "rule b added widens, rule a removed narrows"},

		"allow and deny change places": {"- {name: a, action: allow}\n- {name: b, action: deny}", "- {name: b, action: deny}\n- {name: a, action: allow}", ""},
		"denies change places":         {"- {name: a, action: deny, when: call.args.x > 1}\n- {name: b, action: deny}", "- {name: b, action: deny}\n- {name: a, action: deny, when: call.args.x > 1}", "rule b moved neither"},
		"holds change places":          {"- {name: a, action: hold}\n- {name: b, action: hold}", "- {name: b, action: hold}\n- {name: a, action: hold}", "rule b moved either"},
		"denies that never meet":       {"- {name: a, action: deny, when: call.args.x > 1}\n- {name: b, action: deny, when: call.args.x < 1}", "- {name: b, action: deny, when: call.args.x < 1}\n- {name: a, action: deny, when: call.args.x > 1}", ""},
		"denies of other functions":    {"- {name: a, action: deny, functions: [refunds.list]}\n- {name: b, action: deny, functions: [refunds.create]}", "- {name: b, action: deny, functions: [refunds.create]}\n- {name: a, action: deny, functions: [refunds.list]}", ""},
		"one between goes":             {"- {name: a, action: deny}\n- {name: x, action: deny}\n- {name: b, action: deny}", "- {name: a, action: deny}\n- {name: b, action: deny}", "rule x removed widens"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := compare(t, connections+"rules:\n"+c.was+"\n", connections+"rules:\n"+c.is+"\n"); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestConnectionsAndGrants(t *testing.T) {
	const grant = "grants:\n  - {name: g, groups: [a], connections: [crm], functions: [refunds.list], until: 2026-12-01T00:00:00Z}\n"
	for name, c := range map[string]struct{ from, to, want string }{
		"added":            {"  - {name: tools,", "  - {name: more, protocol: mcp, match: {path: /more}, upstream: {url: 'https://x'}}\n  - {name: tools,", "connection more added neither"},
		"renamed":          {"{name: tools,", "{name: kits,", "connection kits added neither, connection tools removed narrows"},
		"upstream":         {"https://tools.internal", "https://other.internal", "connection tools changed neither"},
		"mask gone":        {"    mask: [{name: cards, detect: [card]}]\n", "", "connection crm changed widens"},
		"mask more":        {"{name: cards, detect: [card]}", "{name: cards, detect: [card]}, {name: mails, detect: [email]}", "connection crm changed narrows"},
		"function gone":    {", {name: refunds.list, method: GET, path: /refunds}]", "]", "connection crm changed narrows, grant g changed either"},
		"match":            {"path: /mcp", "path: /mcp2", "connection tools changed either"},
		"into shadow":      {"{name: tools,", "{name: tools, mode: shadow,", "connection tools changed widens"},
		"proof":            {"{name: tools,", "{name: tools, proof: dpop,", "connection tools changed narrows"},
		"granted to more":  {"groups: [a]", "groups: [a, b]", "grant g changed widens"},
		"granted to fewer": {"groups: [a]", "identities: [b]", "grant g changed either"},
		"granted longer":   {"until: 2026-12-01T00:00:00Z", "until: 2026-12-01T01:30:00+01:00", "grant g changed widens"},
		"granted shorter":  {"until: 2026-12-01T00:00:00Z", "until: 2026-12-01T00:30:00+01:00", "grant g changed narrows"},
		"granted for ever": {", until: 2026-12-01T00:00:00Z", "", "grant g changed widens"},
		"granted more":     {"functions: [refunds.list]", "functions: ['*']", "grant g changed widens"},
		"granted on terms": {"until:", "when: call.args.x < 1, until:", "grant g changed narrows"},
		"grant gone":       {grant, "", "grant g removed narrows"},
	} {
		t.Run(name, func(t *testing.T) {
			was := connections + grant
			is := strings.Replace(was, c.from, c.to, 1)
			if name == "function gone" {
				is = strings.Replace(is, "functions: [refunds.list]", "functions: [refunds.create]", 1)
			}
			if is == was {
				t.Fatal("nothing is replaced")
			}
			if got := compare(t, was, is); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// What is hidden, and how it is known, is told as what it lets through.
func TestWhatIsHidden(t *testing.T) {
	const detectors = `detectors:
  - {name: staff, words: [ann, bob]}
  - {name: ids, pattern: "E-[0-9]+"}
  - {name: ner, analyzer: {url: "http://ner:3000/analyze", entities: [PERSON, LOCATION], min_score: 0.5}}
`
	const masks = `connections:
  - name: crm
    protocol: http
    upstream: {url: "https://crm.internal"}
    functions: [{name: list, method: GET, path: /}]
    mask: [{name: all, detect: [card, staff, ids, ner], how: redact}]
    mask_requests: [{name: out, detect: [card], keys: [pin]}]
    record: {max_body: 1MiB}
`
	const rule = "rules:\n  - {name: more, action: mask, mask: {keys: [pin], how: partial}}\n"
	const key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	for name, c := range map[string]struct{ from, to, want string }{
		"a word more":          {"[ann, bob]", "[ann, bob, eve]", "detector staff changed narrows"},
		"a word less":          {"[ann, bob]", "[ann]", "detector staff changed widens"},
		"other words":          {"[ann, bob]", "[ann, eve]", "detector staff changed either"},
		"their order":          {"[ann, bob]", "[bob, ann]", ""},
		"case counts":          {"[ann, bob]}", "[ann, bob], match_case: true}", "detector staff changed widens"},
		"a pattern":            {"E-[0-9]+", "E-[0-9]{4}", "detector ids changed either"},
		"an analyzer":          {"http://ner:3000", "http://other:3000", "detector ner changed either"},
		"surer":                {"min_score: 0.5", "min_score: 0.8", "detector ner changed widens"},
		"less sure":            {"min_score: 0.5", "min_score: 0.2", "detector ner changed narrows"},
		"fewer kinds":          {"[PERSON, LOCATION]", "[PERSON]", "detector ner changed widens"},
		"all kinds":            {"entities: [PERSON, LOCATION], ", "", "detector ner changed narrows"},
		"asked otherwise":      {"min_score: 0.5", "min_score: 0.5, timeout: 5s", "detector ner changed neither"},
		"one more":             {"detectors:\n", "detectors:\n  - {name: new, words: [eve]}\n", "detector new added neither"},
		"not named any more":   {"ids, ner], how", "ids], how", "connection crm changed widens"},
		"called otherwise":     {"{name: ner,", "{name: other, words: [eve]}\n  - {name: ner,", "detector other added neither"},
		"shows more":           {"how: redact", "how: partial", "connection crm changed widens"},
		"shows less":           {"how: redact", "how: drop", "connection crm changed narrows"},
		"some see all":         {"how: redact}", "how: redact, for: [{groups: [fraud], how: show}]}", "connection crm changed widens"},
		"some see less":        {"how: redact}", "how: redact, for: [{groups: [guests], how: drop}]}", "connection crm changed narrows"},
		"some see more, less":  {"how: redact}", "how: redact, for: [{groups: [a], how: drop}, {groups: [b], how: hash}]}", "connection crm changed either"},
		"sent less":            {"keys: [pin]}]", "keys: [pin, iban]}]", "connection crm changed narrows"},
		"sent more":            {"{name: out, detect: [card], keys: [pin]}", "{name: out, keys: [pin]}", "connection crm changed widens"},
		"sent all":             {"    mask_requests: [{name: out, detect: [card], keys: [pin]}]\n", "", "connection crm changed widens"},
		"originals":            {"max_body: 1MiB", "max_body: 1MiB, originals: [" + key + "]", "connection crm changed widens"},
		"look behind":          {"    record:", "    look_behind: 4KiB\n    record:", "connection crm changed widens"},
		"what can't be read":   {"    record:", "    binary: pass\n    record:", "connection crm changed widens"},
		"larger responses":     {"    record:", "    max_response: 16MiB\n    record:", "connection crm changed widens"},
		"not recorded":         {"max_body: 1MiB", "response: 'off'", "connection crm changed neither"},
		"a rule's keys":        {"{keys: [pin]", "{keys: [pin, iban]", "rule more changed narrows"},
		"a rule's way":         {"how: partial}}", "how: redact}}", "rule more changed narrows"},
		"a rule for some":      {"how: partial}}", "how: partial, for: [{groups: [fraud], how: show}]}}", "rule more changed widens"},
		"a rule of other keys": {"{keys: [pin]", "{keys: [iban]", "rule more changed either"},
	} {
		t.Run(name, func(t *testing.T) {
			was := detectors + masks + rule
			is := strings.Replace(was, c.from, c.to, 1)
			if is == was {
				t.Fatal("nothing is replaced")
			}
			if got := compare(t, was, is); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// The same policy in other files, elsewhere, is the same.
func TestWhereFilesLie(t *testing.T) {
	var sides []difference.Side
	for _, layout := range []string{"one", "two"} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"ca.pem":         "a certificate",
			layout + ".yaml": "connections:\n  - {name: tools, protocol: mcp, upstream: {url: 'https://tools.internal', ca_file: ca.pem}}\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p, err := config.CheckPolicy(filepath.Join(dir, layout+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		set, err := app.InspectPolicy(p, config.Approvers{})
		if err != nil {
			t.Fatal(err)
		}
		sides = append(sides, difference.Side{Policy: p, Set: set})
	}
	if changes, err := difference.Compare(t.Context(), sides[0], sides[1]); err != nil || len(changes) > 0 {
		t.Errorf("%+v, %v", changes[0].Fields, err)
	}
}
