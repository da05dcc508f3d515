package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"time"

	"go.yaml.in/yaml/v3"
)

// LoadPolicy reads the connections and rules of the main file and of the
// policies directory again, as [Load] does, for a change while the process
// runs. Nothing is returned unless all of it is valid.
func LoadPolicy(file, dir string) (Policy, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %w", err)
	}
	var p problems
	pol := readPolicy(parse(file, data, reflect.TypeFor[Config](), &p), beside, &p)
	if dir != "" {
		pol.append(readDir(dir, &p))
	}
	pol.finish(&p)
	return pol, p.err()
}

// CheckPolicy reads files that hold connections and rules only, for a check
// before they are put in place. A rule may name connections of any of them.
func CheckPolicy(files ...string) (Policy, error) {
	var p problems
	var pol Policy
	for _, f := range files {
		pol.append(readFile(f, &p))
	}
	pol.finish(&p)
	return pol, p.err()
}

// PolicyFiles lists the files that paths stand for: a folder stands for its
// policy files, as policies_dir does. Files with tests are left out.
func PolicyFiles(paths ...string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		if !info.IsDir() {
			if !IsTestFile(p) {
				files = append(files, p)
			}
			continue
		}
		some, err := policyFiles(p)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		if len(some) == 0 {
			return nil, fmt.Errorf("policy: folder %s has no .yaml file", p)
		}
		files = append(files, some...)
	}
	return files, nil
}

func readDir(dir string, p *problems) Policy {
	paths, err := policyFiles(dir)
	if err != nil {
		p.add(Position{File: dir}, "policies_dir can't be read: %v; create it or correct the path", err)
		return Policy{}
	}
	var pol Policy
	for _, path := range paths {
		pol.append(readFile(path, p))
	}
	return pol
}

// policyFiles lists the files of a policies directory that are read.
func policyFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		// Editors and Kubernetes leave dot files beside the real ones.
		if ext := filepath.Ext(e.Name()); e.Name()[0] == '.' || (ext != ".yaml" && ext != ".yml") || IsTestFile(e.Name()) {
			continue
		}
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, nil
}

func readFile(file string, p *problems) Policy {
	data, err := os.ReadFile(file)
	if err != nil {
		p.add(Position{File: file}, "can't be read: %v", err)
		return Policy{}
	}
	// A whole configuration may be checked too, so its other keys are known.
	return readPolicy(parse(file, data, reflect.TypeFor[Config](), p), beside, p)
}

// files finds what a policy file names.
type files struct {
	// reference returns where a file lies that was written as path, and what
	// is in it; the content is nil where it can't be read.
	reference func(file, path string) (string, []byte)
	secret    func(file, path string) string
}

// beside finds files where the policy file is.
var beside = files{
	reference: func(file, path string) (string, []byte) {
		at := from(filepath.Dir(file), path)
		// Whoever uses the file says that it can't be read, and where.
		data, err := os.ReadFile(at)
		if err != nil {
			return at, nil
		}
		return at, data
	},
	secret: func(file, path string) string { return from(filepath.Dir(file), path) },
}

// from makes a relative path absolute.
func from(base, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

// references are the files that belong to what a connection says, and travel
// with it. Secrets do not.
func (c *Connection) references() []*string {
	out := []*string{&c.Upstream.CAFile, &c.GRPC.Descriptors, &c.OpenAPI}
	for i := range c.Functions {
		out = append(out, &c.Functions[i].SchemaFile)
	}
	return out
}

func readPolicy(doc document, find files, p *problems) Policy {
	var pol Policy
	if doc.root == nil {
		return pol
	}
	if err := doc.root.Decode(&pol); err != nil {
		p.add(Position{File: doc.file}, "%v", err)
		return Policy{}
	}
	for i := range pol.Connections {
		c := &pol.Connections[i]
		c.Position = doc.at[fmt.Sprintf("connections[%d]", i)]
		c.at = sub(doc.at, fmt.Sprintf("connections[%d].", i))
		c.defaults()
		c.locate(doc.file, item(doc, "connections", i), find, p)
	}
	for i := range pol.Rules {
		r := &pol.Rules[i]
		path := fmt.Sprintf("rules[%d]", i)
		r.Position = doc.at[path]
		r.at = sub(doc.at, path+".")
		r.WhenPosition = expressionStart(doc, "rules", i)
		r.useGuardrail(p)
		r.said = digest(plain(item(doc, "rules", i)))
		if r.Action == "hold" {
			r.Hold.defaults()
		}
		if r.Action == "mask" {
			set(&r.Mask.How, "redact")
			set(&r.Mask.Name, r.Name)
		}
	}
	for i := range pol.Grants {
		g := &pol.Grants[i]
		path := fmt.Sprintf("grants[%d]", i)
		g.Position = doc.at[path]
		g.at = sub(doc.at, path+".")
		g.WhenPosition = expressionStart(doc, "grants", i)
		g.said = digest(plain(item(doc, "grants", i)))
	}
	for i := range pol.Detectors {
		d := &pol.Detectors[i]
		path := fmt.Sprintf("detectors[%d]", i)
		d.Position = doc.at[path]
		d.at = sub(doc.at, path+".")
		d.locate(doc.file, item(doc, "detectors", i), find)
	}
	return pol
}

// expressionStart is where the text of the i-th rule's or grant's when begins: after an opening
// quote, or on the line after a block scalar's marker.
func expressionStart(doc document, list string, i int) Position {
	at, ok := doc.at[fmt.Sprintf("%s[%d].when", list, i)]
	if !ok {
		return Position{}
	}
	owner := item(doc, list, i)
	when := child(owner, "when")
	switch {
	case when == nil:
	case when.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		at.Line++
		// The library keeps no indent; block text of ours is indented by
		// two from its key, as it nearly always is.
		at.Column = owner.Column + 2
	case when.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		at.Column++
	}
	return at
}

// item is the i-th of a list of the document.
func item(doc document, list string, i int) *yaml.Node {
	items := child(doc.root, list)
	if items != nil && items.Kind == yaml.AliasNode {
		items = items.Alias
	}
	if items == nil || i >= len(items.Content) {
		return nil
	}
	n := items.Content[i]
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func sub(at map[string]Position, prefix string) map[string]Position {
	out := map[string]Position{}
	for k, v := range at {
		if len(k) > len(prefix) && k[:len(prefix)] == prefix {
			out[k[len(prefix):]] = v
		}
	}
	return out
}

func (h *Hold) defaults() {
	set(&h.Timeout, 2*time.Minute)
	if retry, _, _ := h.Wait.Retry(); retry {
		set(&h.Valid, 10*time.Minute)
	}
}

func (c *Connection) defaults() {
	switch c.Protocol {
	case "grpc":
	case "openai":
		set(&c.Match.Path, "/v1")
	default:
		set(&c.Match.Path, "/")
	}
	if c.Upstream.HTTP2 == nil {
		h2 := c.Protocol == "grpc"
		c.Upstream.HTTP2 = &h2
	}
	if c.Upstream.Timeout == nil {
		t := 15 * time.Second
		if c.Protocol == "mcp" || c.Protocol == "openai" {
			t = 0 // their event streams stay open
		}
		c.Upstream.Timeout = &t
	}
	if c.Credential.Secret != (Secret{}) {
		set(&c.Credential.Header, "authorization")
		if c.Credential.Header == "authorization" {
			set(&c.Credential.Prefix, "Bearer ")
		}
	}
	set(&c.Mode, "enforce")
	if c.Protocol == "mcp" {
		set(&c.MCP.Tools.Pin, "first_use")
		set(&c.MCP.Tools.Changed, "deny")
		set(&c.MCP.Tools.Refresh, 5*time.Minute)
		if c.MCP.Tools.Changed == "hold" {
			c.MCP.Tools.Hold.defaults()
		}
	}
	if c.Validate == nil {
		imported := c.OpenAPI != "" || c.Protocol == "mcp" && c.MCP.Tools.Pin != "off"
		c.Validate = &imported
	}
	set(&c.Proof, "none")
	set(&c.MaxBody, 1<<20)
	set(&c.MaxResponse, 8<<20)
	set(&c.LookBehind, 64<<10)
	set(&c.Binary, "deny")
	set(&c.Record.MaxBody, 1<<20)
	set(&c.Record.Response, "durable")
	set(&c.Record.Unavailable, "deny")
	for i := range c.MaskRequests {
		set(&c.MaskRequests[i].How, "redact")
		set(&c.MaskRequests[i].Name, fmt.Sprintf("%s request mask %d", c.Name, i+1))
	}
	for i := range c.Mask {
		set(&c.Mask[i].How, "redact")
		set(&c.Mask[i].Name, fmt.Sprintf("%s mask %d", c.Name, i+1))
	}
}

func (p *Policy) append(q Policy) {
	p.Connections = append(p.Connections, q.Connections...)
	p.Rules = append(p.Rules, q.Rules...)
	p.Grants = append(p.Grants, q.Grants...)
	p.Detectors = append(p.Detectors, q.Detectors...)
}

// finish checks the policy as a whole and names its version.
func (p *Policy) finish(ps *problems) {
	p.validate(ps)
	p.Version = p.version()
}

// locate names the connection's version and makes its paths absolute.
func (c *Connection) locate(file string, said *yaml.Node, find files, p *problems) {
	parts := []any{plain(said)}
	var document []byte
	for _, path := range c.references() {
		if *path == "" {
			continue
		}
		at, data := find.reference(file, *path)
		sum := sha256.Sum256(data)
		parts = append(parts, *path, hex.EncodeToString(sum[:]))
		if c.written == nil {
			c.written = map[string]string{}
		}
		c.written[at] = *path + " (SHA-256 " + hex.EncodeToString(sum[:8]) + "…)"
		if path == &c.OpenAPI {
			document = data
		}
		*path = at
	}
	c.Version = digest(parts...)
	if c.OpenAPI != "" {
		if err := c.importOpenAPI(document); err != nil {
			p.add(c.place("openapi"), "connection %q: openapi %s %v", c.Name, c.OpenAPI, err)
		}
	}
	if secret := &c.Credential.Secret.File; *secret != "" {
		*secret = find.secret(file, *secret)
	}
}

// place is where a setting of the connection stands.
func (c *Connection) place(path string) Position {
	if at, ok := c.at[path]; ok {
		return at
	}
	return c.Position
}

// version hashes what the policy says, so that replicas with the same policy
// agree on its name whatever their files are called. Connections and grants have
// no order; rules do. What is hashed is the text as it was written, not what
// this program makes of it: replicas of another release agree too.
func (p Policy) version() string {
	var connections, grants, rules []string
	for _, c := range p.Connections {
		connections = append(connections, c.Version)
	}
	for _, g := range p.Grants {
		grants = append(grants, g.said)
	}
	for _, r := range p.Rules {
		rules = append(rules, r.said)
	}
	sort.Strings(connections)
	sort.Strings(grants)
	if len(p.Detectors) == 0 {
		return digest(connections, rules, grants)
	}
	var detectors []string
	for _, d := range p.Detectors {
		detectors = append(detectors, d.Version)
	}
	sort.Strings(detectors)
	return digest(connections, rules, grants, detectors)
}

// plain is what a YAML node says, without layout, comments and anchors.
func plain(n *yaml.Node) any {
	var v any
	if n == nil || n.Decode(&v) != nil {
		return nil // what can't be decoded is an error elsewhere
	}
	return v
}

// digest hashes values. YAML writes the keys of a mapping in order.
func digest(parts ...any) string {
	data, err := yaml.Marshal(parts)
	if err != nil {
		panic("config: what was read as YAML can be written as YAML: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:6])
}
