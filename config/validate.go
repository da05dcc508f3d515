package config

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxHold is the longest that a call can be held open.
	MaxHold = time.Hour
	// MaxAsked is the longest that people can have to decide where nobody waits.
	MaxAsked = 7 * 24 * time.Hour
	// MaxValid is the longest that an approval can wait to be taken up.
	MaxValid = 24 * time.Hour
)

func (c *Config) validate(doc document, p *problems) {
	bad := func(path, format string, args ...any) {
		at, ok := doc.at[path]
		if !ok {
			at = Position{File: doc.file}
		}
		p.add(at, "%s: %s", path, fmt.Sprintf(format, args...))
	}
	for path, addr := range map[string]string{
		"listen.grpc": c.Listen.GRPC, "listen.xds": c.Listen.XDS, "listen.console": c.Listen.Console,
		"listen.metrics": c.Listen.Metrics, "envoy.listen": c.Envoy.Listen, "envoy.services": c.Envoy.Services,
	} {
		if err := hostPort(addr); err != nil {
			bad(path, "%v", err)
		}
	}
	oneOf := func(path, v string, choices ...string) {
		if !slices.Contains(choices, v) {
			bad(path, "%q is not known; choose %s%s", v, strings.Join(choices, ", "), suggest(v, choices))
		}
	}
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "json", "text")
	oneOf("identity.unreachable", c.Identity.Unreachable, "fail", "wait")
	if (c.Envoy.TLS.CertFile == "") != (c.Envoy.TLS.KeyFile == "") {
		bad("envoy.tls", "set both cert_file and key_file, or neither")
	}
	if c.Control.Server != "" {
		if err := hostPort(c.Control.Server); err != nil {
			bad("control.server", "%v", err)
		}
	}
	if t := c.Control.TLS; (t.CertFile == "") != (t.KeyFile == "") {
		bad("control.tls", "set both cert_file and key_file, or neither")
	}
	c.validateReach(bad)
	for i, l := range c.Control.Labels {
		if name, value, ok := strings.Cut(l, "="); !ok || name == "" || value == "" {
			bad(fmt.Sprintf("control.labels[%d]", i), "%q is not name=value", l)
		}
	}
	if c.Control.Wait < 0 || c.Control.Wait > 5*time.Minute {
		bad("control.wait", "%s is outside 0s to 5m", c.Control.Wait)
	}
	if c.Envoy.DecideTimeout < 10*time.Millisecond {
		bad("envoy.decide_timeout", "%s is too short to decide anything; 2s is the default", c.Envoy.DecideTimeout)
	}
	if c.Identity.ClockSkew < 0 || c.Identity.ClockSkew > 5*time.Minute {
		bad("identity.clock_skew", "%s is outside 0s to 5m; a larger skew would keep expired tokens alive", c.Identity.ClockSkew)
	}
	seen := map[string]bool{}
	for i, is := range c.Identity.Issuers {
		at := fmt.Sprintf("identity.issuers[%d]", i)
		switch u, err := url.Parse(is.URL); {
		case is.URL == "":
			bad(at, "url is missing; it is the issuer's identifier, such as https://idp.example.com")
		case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
			bad(at+".url", "%q is not an http(s) URL", is.URL)
		case u.Scheme == "http" && !loopback(u.Hostname()):
			bad(at+".url", "%q would fetch signing keys unprotected; use https (http is for loopback only)", is.URL)
		}
		if seen[is.URL] {
			bad(at+".url", "issuer %q stands twice", is.URL)
		}
		seen[is.URL] = true
		if len(is.Audiences) == 0 {
			bad(at, "audiences is missing; without it a token meant for another service would be accepted")
		}
		for _, a := range is.Algorithms {
			oneOf(at+".algorithms", a, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
		}
		oneOf(at+".kind", is.Kind, "human", "ci", "agent", "workload")
	}
	c.validateIdentity(bad)
	c.validateConsole(bad)
	c.Approvals.Postgres.validate("approvals.postgres", bad)
	if i := c.Audit.Ledger.Interval; i < 100*time.Millisecond || i > 10*time.Second {
		bad("audit.ledger.interval", "%s is outside 100ms to 10s, in which every record must be signed", i)
	}
	if c.Masking.Memory < 16<<20 {
		bad("masking.memory", "%s is too small to mask responses in; 512MiB is the default", c.Masking.Memory)
	}
	if t := c.Masking.Timeout; t < 100*time.Millisecond || t > time.Hour {
		bad("masking.timeout", "%s is outside 100ms to 1h; 30s is the default", t)
	}
	if c.Audit.Spool.MaxBytes < 1<<20 {
		bad("audit.spool.max_bytes", "%s is too small to hold a call; 10GiB is the default", c.Audit.Spool.MaxBytes)
	}
	ch := c.Audit.ClickHouse
	if ch.URL != "" {
		// Each of several hosts is looked at by itself: together they are no URL.
		scheme, rest, _ := strings.Cut(ch.URL, "://")
		end := strings.IndexAny(rest+"/", "/?#")
		for _, host := range strings.Split(rest[:end], ",") {
			if u, err := url.Parse(scheme + "://" + host); err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "clickhouse", "clickhouses"}, u.Scheme) {
				bad("audit.clickhouse.url", "want http(s)://host:port or clickhouse(s)://host:port, several hosts separated by commas")
			} else if u.User != nil {
				bad("audit.clickhouse.url", "holds a user or password; set username and password instead, so that it is never logged")
			}
		}
	}
	if !identifier.MatchString(ch.Database) {
		bad("audit.clickhouse.database", "%q is not a plain identifier", ch.Database)
	}
	if ch.Cluster == "" && (ch.ReplicaPath != "" || ch.ReplicaName != "" || ch.InsertQuorum != "") {
		bad("audit.clickhouse", "replica_path, replica_name and insert_quorum mean something on a cluster only; set cluster to its name")
	}
	if ch.Cluster != "" && !macroForm.MatchString(ch.Cluster) {
		bad("audit.clickhouse.cluster", "%q is not the name of a cluster", ch.Cluster)
	}
	if ch.ReplicaPath != "" && (!strings.HasPrefix(ch.ReplicaPath, "/") || !strings.Contains(ch.ReplicaPath, "{table}")) {
		bad("audit.clickhouse.replica_path", "%q would be shared by all tables; want a path from / with {table} in it", ch.ReplicaPath)
	}
	if ch.ReplicaName != "" && !macroForm.MatchString(ch.ReplicaName) {
		bad("audit.clickhouse.replica_name", "%q is not a name; the servers' macro {replica} is the default", ch.ReplicaName)
	}
	if n, err := strconv.Atoi(ch.InsertQuorum); ch.InsertQuorum != "" && ch.InsertQuorum != "auto" && (err != nil || n < 1) {
		bad("audit.clickhouse.insert_quorum", "%q is neither auto nor a number of replicas", ch.InsertQuorum)
	}
	oneSource(c.Audit.HashKey, func(msg string) { bad("audit.hash_key", "%s", msg) })
	oneSource(c.Audit.Unseal.ReleaseKey, func(msg string) { bad("audit.unseal.release_key", "%s", msg) })
	if w := c.Audit.Unseal.Wait; w < time.Minute || w > 30*24*time.Hour {
		bad("audit.unseal.wait", "audit.unseal.wait %s is outside 1m to 720h", w)
	}
	oneSource(ch.Password, func(msg string) { bad("audit.clickhouse.password", "%s", msg) })
}

var (
	identifier  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	macroForm   = regexp.MustCompile(`^[A-Za-z0-9_.{}-]+$`)
	nameForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	notSessions = []string{"authorization", "proxy-authorization", "cookie", "dpop", "x-api-key", "host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "x-forwarded-for", "x-forwarded-client-cert", "callgate-break-glass"}
	headerForm  = regexp.MustCompile(`^[a-z0-9!#$%&'*+.^_|~-]+$`)
	serviceForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
	parameter   = regexp.MustCompile(`^\{[A-Za-z_][A-Za-z0-9_]*\}$`)
)

func (p Policy) validate(ps *problems) {
	names := map[string]Position{}
	for _, c := range p.Connections {
		if first, twice := names[c.Name]; twice && c.Name != "" {
			ps.add(c.Position, "connection %q stands twice, first at %s", c.Name, first)
		}
		names[c.Name] = c.Position
		c.validate(ps)
	}
	rules := map[string]Position{}
	for _, r := range p.Rules {
		if first, twice := rules[r.Name]; twice && r.Name != "" {
			ps.add(r.Position, "rule %q stands twice, first at %s", r.Name, first)
		}
		rules[r.Name] = r.Position
		r.validate(ps)
	}
	detectors := map[string]Position{}
	for _, d := range p.Detectors {
		if first, twice := detectors[d.Name]; twice && d.Name != "" {
			ps.add(d.Position, "detector %q stands twice, first at %s", d.Name, first)
		}
		detectors[d.Name] = d.Position
		d.validate(ps)
	}
	grants := map[string]Position{}
	for _, g := range p.Grants {
		if first, twice := grants[g.Name]; twice && g.Name != "" {
			ps.add(g.Position, "grant %q stands twice, first at %s", g.Name, first)
		}
		grants[g.Name] = g.Position
		g.validate(ps)
	}
}

func (c Connection) validate(ps *problems) {
	bad := func(path, format string, args ...any) {
		at, ok := c.at[path]
		if !ok {
			at = c.Position
		}
		ps.add(at, "connection %q: %s", c.Name, fmt.Sprintf(format, args...))
	}
	oneOf := func(path, v string, choices ...string) {
		if !slices.Contains(choices, v) {
			bad(path, "%s %q is not known; choose %s%s", path, v, strings.Join(choices, ", "), suggest(v, choices))
		}
	}
	if !nameForm.MatchString(c.Name) {
		bad("name", "name must be lower case letters, digits and dashes")
	}
	if h := c.SessionHeader; h != "" && (!headerForm.MatchString(h) || slices.Contains(notSessions, h) || strings.HasPrefix(h, "x-callgate-") || h == c.Credential.Header) {
		bad("session_header", "session_header %q must be a lower-case header name, of a header that holds no credential and that nothing else is read from, such as x-conversation-id", h)
	}
	oneOf("proof", c.Proof, "none", "dpop", "certificate", "any")
	oneOf("mode", c.Mode, "enforce", "shadow")
	oneOf("protocol", c.Protocol, "http", "mcp", "jsonrpc", "grpc", "graphql", "sql", "openai")
	if c.SQL.Dialect != "" {
		oneOf("sql.dialect", c.SQL.Dialect, "generic", "postgres", "mysql")
	}

	switch u, err := url.Parse(c.Upstream.URL); {
	case c.Upstream.URL == "":
		bad("upstream", "upstream.url is missing; it says where the function runs, such as https://crm.internal:8443")
	case err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https"):
		bad("upstream.url", "upstream.url %q is not an http(s) URL", c.Upstream.URL)
	case u.User != nil:
		bad("upstream.url", "upstream.url holds a user or password; set credential instead")
	case u.RawQuery != "" || u.Fragment != "":
		bad("upstream.url", "upstream.url can't hold a query or fragment")
	case c.Protocol == "grpc" && u.Path != "" && u.Path != "/":
		bad("upstream.url", "upstream.url of a grpc connection can't have a path")
	}
	if *c.Upstream.Timeout < 0 {
		bad("upstream.timeout", "upstream.timeout can't be negative; 0s means none")
	}

	if c.Protocol == "grpc" {
		if len(c.Match.Services) == 0 {
			bad("match", "match.services is missing; a grpc connection names its services, such as orders.v1.Orders")
		}
		for i, s := range c.Match.Services {
			if !serviceForm.MatchString(s) {
				bad(fmt.Sprintf("match.services[%d]", i), "%q is not the full name of a service, such as orders.v1.Orders", s)
			}
		}
		for i, m := range c.GRPC.Streaming {
			service, method, _ := strings.Cut(m, "/")
			if !slices.Contains(c.Match.Services, service) || !identifier.MatchString(method) {
				bad(fmt.Sprintf("grpc.streaming[%d]", i), "%q is not a method of one of match.services, such as orders.v1.Orders/Upload", m)
			}
		}
		if c.Match.Path != "" {
			bad("match.path", "match.path is not for grpc; its services name the paths")
		}
	} else {
		if len(c.Match.Services) > 0 {
			bad("match.services", "match.services is for grpc only")
		}
		if m := c.Match.Path; m[0] != '/' || path.Clean(m) != m && path.Clean(m)+"/" != m {
			bad("match.path", "match.path %q must start with / and be in its simplest form", m)
		}
		if c.GRPC.Descriptors != "" {
			bad("grpc.descriptors", "grpc.descriptors is for grpc only")
		}
		if len(c.GRPC.Streaming) > 0 {
			bad("grpc.streaming", "grpc.streaming is for grpc only")
		}
	}
	c.validateFunctions(bad)
	c.validateTools(bad, oneOf)

	if h := c.Credential.Header; h != "" {
		if !headerForm.MatchString(h) {
			bad("credential.header", "credential.header %q must be a lower-case header name", h)
		}
		if c.Credential.Secret == (Secret{}) {
			bad("credential", "credential has no secret; set env or file")
		}
		if strings.HasPrefix(h, "x-callgate-") || h == "host" || h == "content-length" {
			bad("credential.header", "credential.header %q can't be set", h)
		}
	}
	oneSource(c.Credential.Secret, func(msg string) { bad("credential", "credential: %s", msg) })
	oneOf("record.response", c.Record.Response, "durable", "async", "off")
	oneOf("record.unavailable", c.Record.Unavailable, "deny", "allow")
	if k := c.Record.Keep; k.Calls > 0 && k.Bodies > k.Calls {
		bad("record.keep.bodies", "record.keep.bodies %s is longer than record.keep.calls %s, with which they go", k.Bodies, k.Calls)
	}
	for i, h := range c.Record.Headers {
		if !headerForm.MatchString(h) {
			bad(fmt.Sprintf("record.headers[%d]", i), "record.headers: %q must be a lower-case header name", h)
		}
		if h == c.Credential.Header {
			bad(fmt.Sprintf("record.headers[%d]", i), "record.headers: %q carries the service's credential and is never recorded", h)
		}
	}
	for name, n := range map[string]Bytes{"max_body": c.MaxBody, "max_response": c.MaxResponse} {
		if n < 1<<10 || n > 64<<20 {
			bad(name, "%s %s is outside 1KiB to 64MiB", name, n)
		}
	}
	if c.LookBehind < 4<<10 || c.LookBehind > 1<<20 {
		bad("look_behind", "look_behind %s is outside 4KiB to 1MiB", c.LookBehind)
	}
	oneOf("binary", c.Binary, "deny", "pass")
	switch {
	case c.Batch != (Batch{}) && c.Protocol != "jsonrpc" && c.Protocol != "mcp":
		bad("batch", "batch is for jsonrpc and mcp only")
	case c.Batch.Max > 0 && !c.Batch.Accept:
		bad("batch.max", "batch.max says how long batches may be, and none are taken; add accept: true")
	case c.Batch.Max > maxBatch:
		bad("batch.max", "batch.max %d is over %d", c.Batch.Max, maxBatch)
	}
	for i, m := range c.MaskRequests {
		at := fmt.Sprintf("mask_requests[%d]", i)
		m.validate(func(format string, args ...any) { bad(at, format, args...) })
		if len(m.For) > 0 {
			bad(at, "mask_requests: for is not for requests, which a function gets the same way from everybody")
		}
		if c.Protocol == "sql" && len(m.Paths) > 0 {
			bad(at, "mask_requests: paths name nothing in an SQL text; use detect or keys, which deny a statement that holds such a value")
		}
	}
	for i, m := range c.Mask {
		m.validate(func(format string, args ...any) { bad(fmt.Sprintf("mask[%d]", i), format, args...) })
	}
}

func (c Connection) validateTools(bad func(path, format string, args ...any), oneOf func(path, v string, choices ...string)) {
	t := c.MCP.Tools
	if c.Protocol != "mcp" {
		if !reflect.ValueOf(t).IsZero() {
			bad("mcp", "mcp is for mcp only")
		}
		return
	}
	oneOf("mcp.tools.pin", t.Pin, "first_use", "accepted", "off")
	oneOf("mcp.tools.changed", t.Changed, "deny", "hold")
	if t.Changed != "hold" && !reflect.ValueOf(t.Hold).IsZero() {
		bad("mcp.tools.hold", "mcp.tools.hold is for changed: hold only")
	}
	if t.Changed == "hold" {
		t.Hold.validate("hold", func(path, format string, args ...any) { bad("mcp.tools."+path, "mcp.tools."+format, args...) })
	}
	if t.Refresh < 10*time.Second || t.Refresh > 24*time.Hour {
		bad("mcp.tools.refresh", "mcp.tools.refresh %s is outside 10s to 24h", t.Refresh)
	}
	if t.Pin == "off" && c.Validate != nil && *c.Validate {
		bad("validate", "validate needs the tools' schemas, which mcp.tools.pin: off does not keep; pin them, or leave validate out")
	}
}

// maxBatch bounds the calls of one request: each is recorded before the first of
// them runs.
const maxBatch = 1000

func (c Connection) validateFunctions(bad func(path, format string, args ...any)) {
	if c.Protocol != "http" {
		if c.OpenAPI != "" {
			bad("openapi", "openapi is for http only")
		}
		if len(c.Functions) > 0 {
			bad("functions", "functions is for http only; %s names its own", c.Protocol)
		}
		return
	}
	if len(c.Functions) == 0 {
		bad("functions", "functions is missing; an http connection names what it offers, such as {name: customers.get, method: GET, path: '/customers/{id}'}")
	}
	seen := map[string]string{}
	for i, f := range c.Functions {
		at := fmt.Sprintf("functions[%d]", i)
		if f.Name == "" {
			bad(at, "a function has no name")
		}
		if f.Method == "" || strings.ToUpper(f.Method) != f.Method {
			bad(at, "function %q: method must be an HTTP method in upper case", f.Name)
		}
		if !strings.HasPrefix(f.Path, "/") {
			bad(at, "function %q: path must start with /", f.Name)
		}
		if f.Schema != nil && f.SchemaFile != "" {
			bad(at, "function %q: set schema or schema_file, not both", f.Name)
		} else if text, err := f.SchemaText(); err != nil || text != nil && !json.Valid(text) {
			bad(at, "function %q: its schema is not JSON (%v)", f.Name, err)
		}
		names := map[string]bool{}
		for _, segment := range strings.Split(f.Path, "/") {
			if !strings.ContainsAny(segment, "{}") {
				continue
			}
			if !parameter.MatchString(segment) {
				bad(at, "function %q: %q must be one whole segment in braces, such as {id}", f.Name, segment)
			}
			if names[segment] {
				bad(at, "function %q: %s stands twice in the path", f.Name, segment)
			}
			names[segment] = true
		}
		shape := f.Method + " " + regexp.MustCompile(`\{[^/]*\}`).ReplaceAllString(f.Path, "{}")
		if other, twice := seen[shape]; twice {
			bad(at, "functions %q and %q match the same requests (%s)", other, f.Name, shape)
		}
		seen[shape] = f.Name
	}
}

var maskHows = []string{"redact", "partial", "token", "hash", "drop"}

func (m Mask) validate(bad func(format string, args ...any)) {
	if len(m.Paths)+len(m.Keys)+len(m.Detect) == 0 {
		bad("mask hides nothing; set paths, keys or detect")
	}
	if hows := maskHows; !slices.Contains(hows, m.How) {
		bad("mask.how %q is not known; choose %s%s", m.How, strings.Join(hows, ", "), suggest(m.How, hows))
	}
	for i, f := range m.For {
		if hows := slices.Concat(maskHows, []string{"show"}); !slices.Contains(hows, f.How) {
			bad("mask.for[%d].how %q is not known; choose %s%s", i, f.How, strings.Join(hows, ", "), suggest(f.How, hows))
		}
		if len(f.Groups)+len(f.Identities) == 0 && !f.BreakGlass {
			bad("mask.for[%d] fits nobody; name groups or identities, or say break_glass: true", i)
		}
	}
}

func (r Rule) validate(ps *problems) {
	bad := func(path, format string, args ...any) {
		at, ok := r.at[path]
		if !ok {
			at = r.Position
		}
		ps.add(at, "rule %q: %s", r.Name, fmt.Sprintf(format, args...))
	}
	if r.Name == "" {
		bad("name", "name is missing; audit rows and denials name the rule")
	}
	actions := []string{"allow", "deny", "hold", "mask"}
	if !slices.Contains(actions, r.Action) {
		bad("action", "action %q is not known; choose %s%s", r.Action, strings.Join(actions, ", "), suggest(r.Action, actions))
	}
	r.Hold.validate(r.Action, bad)
	hides := len(r.Mask.Paths)+len(r.Mask.Keys)+len(r.Mask.Detect) > 0
	switch {
	case r.Action == "mask":
		r.Mask.validate(func(format string, args ...any) { bad("mask", format, args...) })
	case hides || r.Mask.How != "":
		bad("mask", "mask is for action mask only")
	}
}

func oneSource(s Secret, bad func(msg string)) {
	if s.Env != "" && s.File != "" {
		bad("set env or file, not both")
	}
}

func hostPort(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port, such as 127.0.0.1:9191", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" && n == 0 {
		return fmt.Errorf("%q has no port between 0 and 65535", addr)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
