package config

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// Policy is what decides about calls: connections and rules. It is validated
// and activated as a whole.
type Policy struct {
	Connections []Connection `yaml:"connections"`
	Rules       []Rule       `yaml:"rules"`
	Grants      []Grant      `yaml:"grants"`
	// Detectors are one's own, beside the built-in ones.
	Detectors []Detector `yaml:"detectors"`
	// Version is a hash over what the connections and rules say, the same
	// on every replica that loaded the same, whatever the files' layout.
	Version string `yaml:"-"`
}

// Position is where something stands in a file. Lines and columns count from 1.
type Position struct {
	File   string
	Line   int
	Column int
}

// Connection is a registered function endpoint.
type Connection struct {
	Name     string `yaml:"name"`     // lower case letters, digits, dashes. Required
	Protocol string `yaml:"protocol"` // http, mcp, jsonrpc, grpc, graphql, sql or openai. Required
	// Mode is enforce (default) or shadow: what the rules say of a call is
	// decided and recorded, and the call is let through all the same. Who calls
	// must be known in both, and the request be readable.
	Mode string `yaml:"mode"`
	// Proof asks for tokens that are of no use to whoever stole them: dpop (RFC
	// 9449), certificate (RFC 8705) or any of these. Default none: bearer
	// tokens will do, and one that is bound is checked all the same.
	Proof string `yaml:"proof"`
	// SessionHeader (lower case) names the session that a call belongs to, such
	// as an agent's run: it is recorded, and session.calls counts by it within
	// the identity. Whoever calls can choose it, and so begin anew. Default: the
	// MCP session, the token's sid, or the trace.
	SessionHeader string   `yaml:"session_header"`
	Match         Match    `yaml:"match"`
	Upstream      Upstream `yaml:"upstream"`
	// Functions name what an http connection offers. A request that matches
	// none is denied. Other protocols name their functions themselves.
	Functions []Function `yaml:"functions"`
	// OpenAPI is an OpenAPI 3 document (JSON or YAML) whose operations are
	// functions of an http connection too: operationId names them, or else
	// method and path. Paths are below match.path; the document's servers
	// don't count.
	OpenAPI string `yaml:"openapi"`
	// Validate denies calls whose arguments don't fit the function's schema.
	// Default: true with openapi and for mcp's pinned tools, else false.
	Validate   *bool      `yaml:"validate"`
	Credential Credential `yaml:"credential"`
	GRPC       GRPC       `yaml:"grpc"`
	GraphQL    GraphQL    `yaml:"graphql"`
	SQL        SQL        `yaml:"sql"`
	MCP        MCP        `yaml:"mcp"`
	Batch      Batch      `yaml:"batch"`
	// MaxBody is the largest request body let through. Default 1MiB.
	MaxBody Bytes  `yaml:"max_body"`
	Record  Record `yaml:"record"`
	// Mask hides parts of every response of this connection; rules may add.
	Mask []Mask `yaml:"mask"`
	// MaskRequests hides parts of what functions are sent. Rules and approvers
	// judge the request as it came; what is recorded is what the function got.
	// Bodies and the values of queries are masked. Where a path, a header or an
	// SQL text holds such a value, the call is denied.
	MaskRequests []Mask `yaml:"mask_requests"`
	// MaxResponse bounds what can only be masked whole: an event, a line of
	// JSON Lines, a gRPC message, a multipart body, a tag, a text or a hidden
	// element of XML and HTML, a field of a form, a JSON document in a string.
	// What is larger is withheld. Responses made of such parts flow through
	// masks whatever their size. Default 8MiB.
	MaxResponse Bytes `yaml:"max_response"`
	// LookBehind is how much of a flowing response is searched together, so
	// that a value cut in two is found; nothing leaves before. Default 64KiB.
	LookBehind Bytes `yaml:"look_behind"`
	// EventTexts are field paths in the data of events at which pieces of a longer
	// text stand, which are searched together, beside those of the well-known APIs
	// of language models; "$" is data that is such a piece itself. Default: none.
	EventTexts []string `yaml:"event_texts"`
	// Binary says what becomes of a response that a mask applies to and that
	// can't be read to be masked: "deny" (default) withholds it, "pass" lets
	// it through and records that.
	Binary   string   `yaml:"binary"`
	Position Position `yaml:"-"`
	// Version is a hash over what the connection says, the files that it names
	// included.
	Version string `yaml:"-"`

	at map[string]Position // where each setting stands, by path below the connection
	// written is how the files were named that it names, and what is in them,
	// by where they lie.
	written map[string]string
}

// Match says which requests belong to a connection.
type Match struct {
	// Authorities are the Host or :authority values, without a port,
	// "*.example.com" allowed. Default: any.
	Authorities []string `yaml:"authorities"`
	// Path is a prefix of whole segments: "/crm" matches "/crm" and "/crm/x".
	// Default "/", and "/v1" for openai. For grpc it is left out: the services of the
	// descriptors name the paths.
	Path string `yaml:"path"`
	// Services are the full names of a grpc connection's services. Required
	// there, refused elsewhere.
	Services []string `yaml:"services"`
}

// Upstream is where the function runs.
type Upstream struct {
	// URL is http(s)://host:port. Its path, if any, replaces match.path.
	URL string `yaml:"url"`
	// CAFile is what an https upstream's certificate must chain to.
	// Default: the system's roots as Envoy's host has them.
	CAFile string `yaml:"ca_file"`
	// ServerName is sent as SNI and must be in the certificate. Default: the URL's host.
	ServerName string `yaml:"server_name"`
	// HTTP2 speaks HTTP/2 to the upstream. Default: true for grpc.
	HTTP2 *bool `yaml:"http2"`
	// Timeout bounds the upstream's whole answer. Default 15s; 0s: none
	// (streams). mcp and openai connections default to none.
	Timeout *time.Duration `yaml:"timeout"`
}

// Function names an http request.
type Function struct {
	Name   string `yaml:"name"`
	Method string `yaml:"method"`
	// Path is a template below match.path, "/customers/{id}"; a name in
	// braces is one segment and becomes an argument.
	Path string `yaml:"path"`
	// Schema is the JSON Schema of the function's arguments, written here or in
	// a file: rules can ask schema.valid(call.args), and what they say of
	// arguments is checked against it when they are loaded. It may not refer
	// to other documents.
	Schema     any    `yaml:"schema"`
	SchemaFile string `yaml:"schema_file"`
}

// SchemaText is the function's schema as JSON; nil where it has none.
func (f Function) SchemaText() (json.RawMessage, error) {
	switch {
	case f.SchemaFile != "":
		data, err := os.ReadFile(f.SchemaFile)
		if err != nil {
			return nil, fmt.Errorf("read schema: %w", err)
		}
		return data, nil
	case f.Schema != nil:
		return json.Marshal(f.Schema)
	}
	return nil, nil
}

// Credential is the service's own secret, put on the request in place of
// whatever the caller sent.
type Credential struct {
	Header string `yaml:"header"` // default authorization
	Prefix string `yaml:"prefix"` // default "Bearer " for authorization, else ""
	Secret Secret `yaml:",inline"`
}

// GRPC says where a grpc connection's descriptors come from.
type GRPC struct {
	// Descriptors is a FileDescriptorSet file (protoc --include_imports -o).
	// Default: the upstream's reflection service.
	Descriptors string `yaml:"descriptors"`
	// Streaming lists methods ("pkg.Service/Method") whose callers stream
	// messages. They are judged by their headers alone, before any message has
	// come: rules that look at arguments deny them, and no message of theirs
	// is inspected or recorded. Default: none; such methods are denied.
	Streaming []string `yaml:"streaming"`
}

// GraphQL bounds the operations of a graphql connection.
type GraphQL struct {
	MaxDepth   uint32 `yaml:"max_depth"`   // fields inside each other. Default 10
	MaxAliases uint32 `yaml:"max_aliases"` // default 15
	MaxFields  uint32 `yaml:"max_fields"`  // after fragments are put in. Default 200
	// Introspection lets __schema and __type through. Default false.
	Introspection bool `yaml:"introspection"`
	// Several lets an operation have several fields at its root, which one
	// decision then covers. Default false.
	Several bool `yaml:"several"`
}

// MCP says how an mcp connection's server is held to what it said of its tools.
type MCP struct {
	Tools Tools `yaml:"tools"`
}

// Tools says which definitions of tools are believed. A definition is all that
// tools/list says of a tool; its hash is pinned. What is not pinned as it is
// offered stands in no list that a caller gets.
type Tools struct {
	// Pin says when a tool is pinned: first_use (default) takes those that the
	// server offers when the gateway first asks it; accepted takes none until
	// somebody accepts it; off believes the server.
	Pin string `yaml:"pin"`
	// Changed says what becomes of calls to a tool that is new since, or is
	// not as it was: deny (default), or hold for people to let single calls
	// through, until somebody accepts it.
	Changed string `yaml:"changed"`
	Hold    Hold   `yaml:"hold"`
	// Refresh is how often the server is asked. Default 5m.
	Refresh time.Duration `yaml:"refresh"`
}

// Batch says whether a jsonrpc or mcp connection takes several messages in one
// request, each of which is judged for itself.
type Batch struct {
	// Accept takes them. The connection's requests then go through ext_proc,
	// too, on their way to the function, which is where the denied calls are
	// taken out. Default false: a batch is denied.
	Accept bool   `yaml:"accept"`
	Max    uint32 `yaml:"max"` // messages. Default 50, at most 1000
}

// SQL says how the bodies of an sql connection are read.
type SQL struct {
	Dialect string `yaml:"dialect"` // generic (default), postgres or mysql
}

// Record says what is kept of a call.
type Record struct {
	// MaxBody is kept whole of each body; of a longer one the first and
	// last part, the length and the SHA-256. Default 1MiB.
	MaxBody Bytes `yaml:"max_body"`
	// Response is durable (default: the record is on disk before the last
	// byte leaves), async, or off.
	Response string `yaml:"response"`
	// Headers are kept as well as the built-in list, request and response.
	// Credentials in them are replaced by keyed hashes.
	Headers []string `yaml:"headers"`
	// Unavailable says what happens when the record can't be made durable:
	// deny (default) or allow, which is itself recorded as soon as it can be.
	Unavailable string `yaml:"unavailable"`
	// Keep is how long records stay. Default: for ever.
	Keep Keep `yaml:"keep"`
	// Originals are the age public keys (age1…) of those who may open what was
	// masked: where the caller gets another body than the function sent, the
	// function's is kept, up to max_body, encrypted for them. The gateway must
	// not have their private keys; it releases an original when a second person
	// has agreed (callgate calls unseal). Default: originals are not kept.
	Originals []string `yaml:"originals"`
}

// Keep is how long the records of a connection's calls are kept; 0 means for
// ever. The ledger, which holds no content, stays and proves what is left.
type Keep struct {
	Bodies Period `yaml:"bodies"` // content: bodies, arguments, path, error texts
	Calls  Period `yaml:"calls"`  // the whole row
}

// Mask is one thing to hide in responses.
type Mask struct {
	Name   string   `yaml:"name"`
	Paths  []string `yaml:"paths"`
	Keys   []string `yaml:"keys"`
	Detect []string `yaml:"detect"`
	How    string   `yaml:"how"` // redact (default), partial, token, hash, drop
	// For says otherwise for some callers; the first that fits decides.
	For []MaskFor `yaml:"for"`
}

// MaskFor is how a mask applies to some callers. All that it names must fit.
type MaskFor struct {
	Groups     []string `yaml:"groups"`
	Identities []string `yaml:"identities"` // subjects, or "issuer|subject"
	// Actors are the agents that may see what those named above may, acting for
	// them. Default: nobody who acts for somebody.
	Actors []string `yaml:"actors"`
	// BreakGlass asks for a call that broke the glass, of anybody or of those
	// named above.
	BreakGlass bool   `yaml:"break_glass"`
	How        string `yaml:"how"` // as the mask's, or show
}

// Rule is one sentence of policy.
type Rule struct {
	Name string `yaml:"name"` // default, with use: the guardrail's
	// Use names a ready guardrail, which gives the rule its condition, and its
	// action and message where the rule has none of its own; With sets its
	// parameters. A when beside it must be true as well.
	// "callgate policy library" lists them.
	Use  string         `yaml:"use"`
	With map[string]any `yaml:"with"`
	// Connections and Functions are globs that say where the rule looks.
	// Default: everywhere.
	Connections []string `yaml:"connections"`
	Functions   []string `yaml:"functions"`
	// When is a CEL expression over call, identity and connection.
	// Default: true.
	When string `yaml:"when"`
	// Action is allow, deny, hold or mask. The first deny wins, then hold,
	// then allow; mask adds to what an allowed call's response hides.
	Action string `yaml:"action"`
	// Shadow decides and records what would have happened, and does nothing.
	Shadow bool `yaml:"shadow"`
	// Message is told to the caller.
	Message string `yaml:"message"`
	Hold    Hold   `yaml:"hold"`
	Mask    Mask   `yaml:"mask"`

	Position     Position `yaml:"-"`
	WhenPosition Position `yaml:"-"` // of the expression's first character

	said string // a hash over it, as it was written
	at   map[string]Position
}

// Hold is how a rule's held calls wait, and who decides about them. Without
// approvers or stages those in approvals.approvers do.
type Hold struct {
	Approvers Approvers `yaml:"approvers"`
	// Need is how many of the approvers must say yes; a no of any ends it.
	// Default 1.
	Need uint32 `yaml:"need"`
	// Stages are asked one after the other, in place of approvers and need. One
	// person counts once over all of them.
	Stages []Stage `yaml:"stages"`
	// Reason is required, where no decision is taken without a reason, or
	// optional, the default.
	Reason string `yaml:"reason"`
	// BreakGlass are callers who may pass at once, with a reason in the header
	// callgate-break-glass; it is told, and must be reviewed. Default: nobody.
	BreakGlass Approvers `yaml:"break_glass"`
	// MaxGrant is how long a grant may last that an approver gives with an
	// approval. Default: only those in control.administrators give grants.
	MaxGrant time.Duration `yaml:"max_grant"`
	// Timeout is how long people have to decide. Default 2m, at most 1h where
	// Envoy keeps the call open, else 168h (a week).
	Timeout time.Duration `yaml:"timeout"`
	// Wait is how the caller waits: open (default) keeps its request open; retry
	// tells it at once to make the very same call again later; a duration such
	// as 20s keeps it open that long and tells it then.
	Wait Wait `yaml:"wait"`
	// Valid is how long an approval can be taken up after it was given, where
	// callers come again. Default 10m, at most 24h.
	Valid time.Duration `yaml:"valid"`
}

// Wait is how a held call's caller waits: open, retry or a duration.
type Wait string

// Retry reports whether the caller comes again, and how long its request is kept
// open before it is told so.
func (w Wait) Retry() (bool, time.Duration, error) {
	switch w {
	case "", "open":
		return false, 0, nil
	case "retry":
		return true, 0, nil
	}
	d, err := time.ParseDuration(string(w))
	if err != nil || d <= 0 {
		return false, 0, fmt.Errorf("%q is none of open, retry and a duration such as 20s", string(w))
	}
	return true, d, nil
}

// KeptOpen is the longest that Envoy keeps a request open.
func (h Hold) KeptOpen() time.Duration {
	if retry, open, err := h.Wait.Retry(); retry && err == nil {
		return min(open, h.Timeout)
	}
	return h.Timeout
}

// Stage is people who are asked at the same time.
type Stage struct {
	Groups []string `yaml:"groups"`
	People []string `yaml:"people"`
	Need   uint32   `yaml:"need"` // how many must say yes. Default 1
}

// Nobody reports whether there are none.
func (a Approvers) Nobody() bool { return len(a.Groups)+len(a.People) == 0 }

// Unrecorded names the connections whose calls are let through when they can't
// be recorded, which is itself worth a record; "" where there are none.
func Unrecorded(p Policy) string {
	var names []string
	for _, c := range p.Connections {
		if c.Record.Unavailable == "allow" {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "calls are let through when they can't be recorded (record.unavailable: allow) on " + strings.Join(names, ", ")
}
