package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// testFile is one file of tests.
type testFile struct {
	// Now is the time of cases that don't say theirs. Without one, rules and
	// grants can't look at the time.
	Now   time.Time `yaml:"now"`
	Tests []Test    `yaml:"tests"`
}

// Test is a call, and what the policy should say of it.
type Test struct {
	Name     string       `yaml:"name"` // names it among those of its file. Required
	Call     TestCall     `yaml:"call"`
	Identity TestIdentity `yaml:"identity"`
	Now      time.Time    `yaml:"now"` // when the call comes. Default: the file's
	// Before are the calls that came before, for rules that count. By default
	// there were none, and the call is the first of its caller's.
	Before []TestBefore `yaml:"before"`
	// Grants are given beside those of the policy.
	Grants []Grant    `yaml:"grants"`
	Expect TestExpect `yaml:"expect"`

	Position Position `yaml:"-"`
	at       map[string]Position
}

// TestCall is a call as rules see it, or a request from which it is read.
type TestCall struct {
	Connection string `yaml:"connection"` // of a request: default, the one that takes its host and path
	Function   string `yaml:"function"`
	Args       JSON   `yaml:"args"`
	Session    string `yaml:"session"`
	// Method, Path and Headers are of the request, where rules look at them.
	// A request has its own.
	Method  string       `yaml:"method"`
	Path    string       `yaml:"path"`
	Headers TestHeaders  `yaml:"headers"`
	Source  string       `yaml:"source"` // the caller's IP address
	Request *TestRequest `yaml:"request"`
}

// TestRequest is a request as Envoy hands it over.
type TestRequest struct {
	Method  string      `yaml:"method"` // default POST with a body, else GET
	Host    string      `yaml:"host"`   // default localhost
	Path    string      `yaml:"path"`   // with its query
	Headers TestHeaders `yaml:"headers"`
	Body    string      `yaml:"body"`
	// JSON is a body, written as YAML. Its default content-type is
	// application/json.
	JSON JSON `yaml:"json"`
	// BodyFile holds a body, such as a gRPC message. Relative to the file.
	BodyFile string `yaml:"body_file"`
}

// TestBefore are calls of the same caller that came before.
type TestBefore struct {
	Connection string        `yaml:"connection"` // default the call's
	Function   string        `yaml:"function"`   // default the call's
	Session    string        `yaml:"session"`    // the token's (sid). Default: the call's
	Ago        time.Duration `yaml:"ago"`        // how long before. Default 1s
	Times      uint32        `yaml:"times"`      // how many of them. Default 1
}

// TestIdentity is who calls.
type TestIdentity struct {
	Issuer  string      `yaml:"issuer"`
	Subject string      `yaml:"subject"` // required: rules are asked for nobody else
	Kind    string      `yaml:"kind"`    // default human
	Groups  []string    `yaml:"groups"`
	Claims  JSON        `yaml:"claims"`
	Actors  []TestActor `yaml:"actors"` // the one at work first
	Method  string      `yaml:"method"` // how it was proved. Default oidc
}

// TestActor acts for the subject.
type TestActor struct {
	Issuer  string `yaml:"issuer"`
	Subject string `yaml:"subject"`
}

// TestExpect is what should come of a call. What is left out is not looked at.
type TestExpect struct {
	Decision  string     `yaml:"decision"` // allow, deny or hold. Required
	Rule      *string    `yaml:"rule"`     // the rule that decides; "" for none
	Reason    string     `yaml:"reason"`
	Message   string     `yaml:"message"`   // is part of what the caller is told
	Mask      *[]string  `yaml:"mask"`      // names of the masks that rules add, in any order
	Approvers *Approvers `yaml:"approvers"` // of a hold, of all its stages, in any order
	Approvals *uint32    `yaml:"approvals"` // how many a hold needs, over all its stages
	Shadow    *[]string  `yaml:"shadow"`    // rules in shadow that would have matched, in any order
}

// TestFiles lists the test files that paths stand for: a folder stands for those
// in it.
func TestFiles(paths ...string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("tests: %w", err)
		case !info.IsDir():
			if IsTestFile(p) {
				files = append(files, p)
			}
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, fmt.Errorf("tests: %w", err)
		}
		for _, e := range entries {
			if e.Name()[0] != '.' && IsTestFile(e.Name()) {
				files = append(files, filepath.Join(p, e.Name()))
			}
		}
	}
	return files, nil
}

// LoadTests reads test files, strictly as all configuration. Nothing is
// returned unless all of it is valid.
func LoadTests(files ...string) ([]Test, error) {
	var p problems
	var all []Test
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			p.add(Position{File: file}, "can't be read: %v", err)
			continue
		}
		all = append(all, readTests(file, data, &p)...)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return all, nil
}

func readTests(file string, data []byte, p *problems) []Test {
	doc := parse(file, data, reflect.TypeFor[testFile](), p)
	if doc.root == nil {
		return nil
	}
	var f testFile
	if err := doc.root.Decode(&f); err != nil {
		p.add(Position{File: file}, "%v", err)
		return nil
	}
	names := map[string]Position{}
	for i := range f.Tests {
		t := &f.Tests[i]
		path := fmt.Sprintf("tests[%d]", i)
		t.Position, t.at = doc.at[path], sub(doc.at, path+".")
		t.defaults(f.Now)
		t.locate(filepath.Dir(file))
		for j := range t.Grants {
			g := &t.Grants[j]
			at := fmt.Sprintf("grants[%d]", j)
			g.Position, g.at = t.at[at], sub(t.at, at+".")
			g.WhenPosition = t.at[at+".when"]
		}
		if first, twice := names[t.Name]; twice && t.Name != "" {
			p.add(t.Position, "test %q stands twice, first at %s", t.Name, first)
		}
		names[t.Name] = t.Position
		t.validate(p)
	}
	return f.Tests
}

func (t *Test) defaults(now time.Time) {
	if t.Now.IsZero() {
		t.Now = now
	}
	set(&t.Identity.Kind, "human")
	set(&t.Identity.Method, "oidc")
	for i := range t.Before {
		set(&t.Before[i].Ago, time.Second)
		set(&t.Before[i].Times, 1)
	}
	if r := t.Call.Request; r != nil {
		set(&r.Host, "localhost")
		if r.Method == "" {
			r.Method = "GET"
			if r.Body != "" || r.JSON != nil || r.BodyFile != "" {
				r.Method = "POST"
			}
		}
		if r.JSON != nil && !slices.ContainsFunc(r.Headers, func(h TestHeader) bool { return h.Name == "content-type" }) {
			r.Headers = append(r.Headers, TestHeader{"content-type", "application/json"})
		}
	}
}

func (t *Test) locate(folder string) {
	if r := t.Call.Request; r != nil && r.BodyFile != "" {
		r.BodyFile = from(folder, r.BodyFile)
	}
}

// ReadCall reads one call and who makes it, in the form that tests have, without
// a name and what is expected. JSON will do, too. file is what errors call it.
func ReadCall(file string, data []byte) (Test, error) {
	var p problems
	var t Test
	doc := parse(file, data, reflect.TypeFor[Test](), &p)
	switch {
	case doc.root == nil && len(p.list) == 0:
		p.add(Position{File: file}, "holds no call")
	case doc.root == nil:
	default:
		if err := doc.root.Decode(&t); err != nil {
			p.add(Position{File: file}, "%v", err)
			break
		}
		t.Position, t.at = Position{File: file, Line: 1, Column: 1}, doc.at
		t.defaults(time.Time{})
		t.locate(filepath.Dir(file))
		t.validateCall(&p)
	}
	return t, p.err()
}

func (t *Test) validate(p *problems) {
	t.validateCall(p)
	t.validateExpect(p)
}

// complain tells of a fault of a test.
func (t *Test) complain(p *problems, path, format string, args ...any) {
	at, ok := t.at[path]
	if !ok {
		at = t.Position
	}
	subject := fmt.Sprintf("test %q: ", t.Name)
	if t.Name == "" {
		subject = ""
	}
	p.add(at, "%s%s", subject, fmt.Sprintf(format, args...))
}

func (t *Test) validateCall(p *problems) {
	bad := func(path, format string, args ...any) { t.complain(p, path, format, args...) }
	c := t.Call
	if c.Source != "" {
		if _, err := netip.ParseAddr(c.Source); err != nil {
			bad("call.source", "call.source %q is no IP address", c.Source)
		}
	}
	switch r := c.Request; {
	case r == nil && (c.Connection == "" || c.Function == ""):
		bad("call", "call needs a connection and a function, or a request")
	case r == nil:
	case c.Function != "" || c.Args != nil || c.Method != "" || c.Path != "" || c.Headers != nil:
		bad("call.request", "a request says function, args, method, path and headers itself; leave them out of call")
	case r.Path == "" || r.Path[0] != '/':
		bad("call.request.path", "call.request.path must start with /")
	case (r.Body != "" && r.JSON != nil) || (r.BodyFile != "" && (r.Body != "" || r.JSON != nil)):
		bad("call.request", "set one of body, json and body_file")
	}
	for i, b := range t.Before {
		if b.Ago < 0 || b.Ago > time.Hour {
			bad(fmt.Sprintf("before[%d].ago", i), "before.ago %s is outside 0s to 1h, which is how far rules can look back", b.Ago)
		}
		if b.Times > 10_000 {
			bad(fmt.Sprintf("before[%d].times", i), "before.times %d is over 10000", b.Times)
		}
	}
	if t.Identity.Subject == "" {
		bad("identity", "identity.subject is missing; without an identity a call is denied before rules are asked")
	}
	if kinds := []string{"human", "ci", "agent", "workload"}; !slices.Contains(kinds, t.Identity.Kind) {
		bad("identity.kind", "identity.kind %q is not known; choose %s%s", t.Identity.Kind, strings.Join(kinds, ", "), suggest(t.Identity.Kind, kinds))
	}
	if c := t.Identity.Claims; c != nil && c[0] != '{' {
		bad("identity.claims", "identity.claims must be a mapping (key: value)")
	}
	if a := t.Call.Args; a != nil && a[0] != '{' {
		bad("call.args", "call.args must be a mapping (key: value)")
	}
	names := map[string]bool{}
	for _, g := range t.Grants {
		if names[g.Name] {
			p.add(g.Position, "grant %q stands twice", g.Name)
		}
		names[g.Name] = true
		g.validate(p)
	}
}

func (t *Test) validateExpect(p *problems) {
	bad := func(path, format string, args ...any) { t.complain(p, path, format, args...) }
	if t.Name == "" {
		bad("name", "name is missing; reports name the test")
	}
	e := t.Expect
	if e.Decision == "" {
		bad("expect", "expect.decision is missing; choose allow, deny or hold")
	} else if choices := []string{"allow", "deny", "hold"}; !slices.Contains(choices, e.Decision) {
		bad("expect.decision", "expect.decision %q is not known; choose %s%s", e.Decision, strings.Join(choices, ", "), suggest(e.Decision, choices))
	}
	if e.Approvers != nil && e.Decision != "hold" {
		bad("expect.approvers", "expect.approvers is for decision hold only")
	}
	if e.Approvals != nil && (e.Decision != "hold" || *e.Approvals == 0) {
		bad("expect.approvals", "expect.approvals is a number from 1, and for decision hold only")
	}
	if e.Mask != nil && e.Decision == "deny" {
		bad("expect.mask", "expect.mask is for calls that are let through; a denied one has no response")
	}
}

// TestHeader is one header field.
type TestHeader struct{ Name, Value string }

// TestHeaders are a mapping of names to a value, or to a list of values where
// the header comes more than once.
type TestHeaders []TestHeader

// UnmarshalYAML implements [yaml.Unmarshaler].
func (h *TestHeaders) UnmarshalYAML(n *yaml.Node) error {
	list, wrong := headersOf(n)
	if wrong != nil {
		return fmt.Errorf("line %d: %s", wrong.node.Line, wrong.text)
	}
	*h = list
	return nil
}

func headersOf(n *yaml.Node) (TestHeaders, *misfit) {
	if n = resolved(n); n.Kind != yaml.MappingNode {
		return nil, &misfit{n, "headers must be a mapping of names to values"}
	}
	out := TestHeaders{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], resolved(n.Content[i+1])
		if !headerForm.MatchString(name.Value) && !strings.HasPrefix(name.Value, ":") {
			return nil, &misfit{name, fmt.Sprintf("header %q must be a lower-case name", name.Value)}
		}
		values := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			values = value.Content
		}
		for _, v := range values {
			if v = resolved(v); v.Kind != yaml.ScalarNode {
				return nil, &misfit{v, fmt.Sprintf("header %q must be a text, or a list of texts", name.Value)}
			}
			out = append(out, TestHeader{name.Value, v.Value})
		}
	}
	return out, nil
}
