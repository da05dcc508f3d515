package console

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite openapi.json")

// operation is what the description says of one route beside its types.
type operation struct {
	id, summary string
	query       []parameter
	in, out     any // nil: none
	open        bool
	lines       bool // an out on each line, while there are some
}

type parameter struct{ name, kind, about string }

// operations are the routes of the API. A route that is added needs a line here,
// and "make golden".
var operations = map[string]operation{
	"GET /api/v1/openapi.json": {id: "getDescription", summary: "This description.", out: map[string]any{}, open: true},
	"GET /api/v1/status":       {id: "getStatus", summary: "What the process runs, and the Envoys and decision servers that it configures.", out: Status{}},
	"GET /api/v1/audit":        {id: "getAudit", summary: "How the audit trail of this replica stands.", out: Audit{}},
	"POST /api/v1/audit/erase": {id: "erase", summary: "Removes content of calls from the trail, or tells what would be removed.", in: Erase{}, out: Erased{}},
	"GET /api/v1/approvals": {id: "listApprovals", summary: "Held calls that the token's owner may decide or asked for, the newest first.", query: []parameter{
		{"state", "string", "open, approved, refused, used, expired, canceled or broke_glass; default: all"}, {"mine", "boolean", "only those that one may decide now"},
		{"unreviewed", "boolean", "only calls that broke glass and that nobody has reviewed"}, {"connection", "string", "default: all"}, {"function", "string", "default: all"},
		{"rule", "string", "that held the call; default: all"}, {"subject", "string", "of the requester; default: all"}, {"since", "string", "asked for since, a time of RFC 3339"}}, out: []Approval{}},
	"GET /api/v1/approvals/watch":            {id: "watchApprovals", summary: "Lines of JSON, an approval each: those that are open, then each whenever something happens to it. Empty lines say that the connection stands; one that is asked for as it begins may come twice.", out: Approval{}, lines: true},
	"POST /api/v1/approvals/{id}/review":     {id: "review", summary: "Says whether a call that broke glass was justified.", in: Review{}, out: Approval{}},
	"POST /api/v1/delegations":               {id: "delegate", summary: "Lets somebody decide in the place of the token's owner for a while.", in: Delegate{}, out: Delegation{}},
	"GET /api/v1/delegations":                {id: "listDelegations", summary: "Delegations that the token's owner gave or has.", query: []parameter{{"all", "boolean", "with those that are over"}, {"everyone", "boolean", "whosever they are; for those in control.administrators"}}, out: []Delegation{}},
	"DELETE /api/v1/delegations/{id}":        {id: "undelegate", summary: "Takes a delegation back.", out: Delegation{}},
	"GET /api/v1/approvals/{id}":             {id: "getApproval", summary: "One held call, with its request as it would reach the function.", out: Approval{}},
	"GET /api/v1/approvals/{id}/status":      {id: "getApprovalStatus", summary: "How far an approval is, for the caller whose call waits.", out: Standing{}},
	"POST /api/v1/approvals/{id}/approve":    {id: "approve", summary: "Approves a held call in the name of the token's owner.", in: Decision{}, out: Approval{}},
	"POST /api/v1/approvals/{id}/deny":       {id: "deny", summary: "Refuses a held call in the name of the token's owner.", in: Decision{}, out: Approval{}},
	"POST /api/v1/calls/{id}/unseal":         {id: "unseal", summary: "Asks to see an original as it was before masks changed it.", in: unsealing{}, out: Unsealed{}},
	"POST /api/v1/policy":                    {id: "pushPolicy", summary: "Makes a policy decide, everywhere at once or for some at first.", in: Push{}, out: Rollout{}},
	"POST /api/v1/policy/rollback":           {id: "rollBackPolicy", summary: "Makes an earlier version decide again.", in: Change{}, out: Rollout{}},
	"POST /api/v1/policy/promote":            {id: "promotePolicy", summary: "Makes the canary decide for all.", in: Change{}, out: Rollout{}},
	"POST /api/v1/policy/abort":              {id: "abortPolicy", summary: "Ends the canary.", in: Change{}, out: Rollout{}},
	"GET /api/v1/policy/history":             {id: "listRollouts", summary: "What decided, the newest first.", query: []parameter{{"limit", "integer", "at most 200"}}, out: []Rollout{}},
	"GET /api/v1/policy/versions/{version}":  {id: "getPolicy", summary: "A stored policy as it was pushed.", out: Push{}},
	"GET /api/v1/tools":                      {id: "listTools", summary: "Tools of MCP servers, and what of them was accepted.", query: []parameter{{"connection", "string", "default: all"}}, out: []Tool{}},
	"POST /api/v1/tools/{connection}/forget": {id: "forgetTools", summary: "Forgets tools that the server has no more.", in: Forget{}, out: ToolsForgotten{}},
	"POST /api/v1/tools/{connection}/accept": {id: "acceptTools", summary: "Accepts definitions of tools.", in: Accept{}, out: ToolsAccepted{}},
	"GET /api/v1/grants":                     {id: "listGrants", summary: "Grants.", query: []parameter{{"all", "boolean", "with those that are over"}}, out: []Grant{}},
	"POST /api/v1/grants":                    {id: "grant", summary: "Lets somebody call something beyond the policy for a while.", in: Grant{}, out: Grant{}},
	"DELETE /api/v1/grants/{id}":             {id: "takeBackGrant", summary: "Ends a grant.", query: []parameter{{"reason", "string", "recorded"}}, out: Ended{}},
	"GET /api/v1/revocations":                {id: "listRevocations", summary: "Revocations.", query: []parameter{{"all", "boolean", "with those that are over"}}, out: []Revocation{}},
	"POST /api/v1/revocations":               {id: "revoke", summary: "Ends the validity of tokens before their time.", in: Revocation{}, out: Revocation{}},
	"DELETE /api/v1/revocations/{id}":        {id: "liftRevocation", summary: "Lifts a revocation.", query: []parameter{{"reason", "string", "recorded"}}, out: Ended{}},
}

type object = map[string]any

// describer writes the description.
type describer struct {
	schemas  object
	comments map[string]string // of Go types and their fields
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

func describe(t *testing.T, patterns []string) []byte {
	t.Helper()
	d := &describer{schemas: object{}, comments: comments(t)}
	paths := object{}
	for _, pattern := range patterns {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok || !strings.HasPrefix(path, "/api/") {
			continue
		}
		op, ok := operations[pattern]
		if !ok {
			t.Fatalf("%s is not described; add it to operations", pattern)
		}
		item, _ := paths[path].(object)
		if item == nil {
			item = object{}
			paths[path] = item
		}
		one := object{"operationId": op.id, "summary": op.summary}
		var parameters []any
		for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
			parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		for _, q := range op.query {
			parameters = append(parameters, object{"name": q.name, "in": "query", "description": q.about, "schema": object{"type": q.kind}})
		}
		if len(parameters) > 0 {
			one["parameters"] = parameters
		}
		if op.in != nil {
			one["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": d.schema(reflect.TypeOf(op.in))}}}
		}
		problem := object{"description": "Why not, and what to do.", "content": object{"application/problem+json": object{"schema": d.schema(reflect.TypeFor[Problem]())}}}
		kind := "application/json"
		if op.lines {
			kind = "application/x-ndjson"
		}
		one["responses"] = object{"200": object{"description": "Done.", "content": object{kind: object{"schema": d.schema(reflect.TypeOf(op.out))}}}, "default": problem}
		if op.open {
			one["security"] = []any{}
		}
		item[strings.ToLower(method)] = one
	}
	doc := object{"openapi": "3.1.0", "info": object{"title": "Callgate", "version": "v1", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		"description": "The admin API of Callgate. Who asks is whom the bearer token names, by the issuers of the configuration."},
		"security": []any{object{"token": []any{}}}, "paths": paths,
		"components": object{"schemas": d.schemas, "securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "A token of one of identity.issuers."}}}}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// schema is what JSON of a Go type looks like.
func (d *describer) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[uuid.UUID]():
		return object{"type": "string", "format": "uuid"}
	case reflect.TypeFor[json.RawMessage]():
		return object{"description": "Any JSON."}
	case reflect.TypeFor[[]byte]():
		return object{"type": "string", "format": "byte", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint32:
		return object{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return object{"type": "number", "format": "double"}
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": true}
	case reflect.Struct:
		return d.structure(t)
	}
	panic(fmt.Sprintf("no schema for %s", t))
}

func (d *describer) structure(t reflect.Type) object {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	ref := object{"$ref": "#/components/schemas/" + name}
	if _, done := d.schemas[name]; done {
		return ref
	}
	out := object{"type": "object"}
	d.schemas[name] = out // before its fields: types may hold themselves
	if c := d.comments[t.Name()]; c != "" {
		out["description"] = c
	}
	properties, required := object{}, []string{}
	d.fields(t, properties, &required)
	if slices.Sort(required); len(required) > 0 {
		out["required"] = required
	}
	out["properties"] = properties
	return ref
}

func (d *describer) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case f.Anonymous && name == "":
			d.fields(f.Type, properties, required)
			continue
		case name == "":
			name = f.Name
		}
		s := d.schema(f.Type)
		optional := strings.Contains(options, "omit")
		if !optional {
			*required = append(*required, name)
		}
		if !optional && (f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Slice) { // Go writes null
			if kind, plain := s["type"]; plain {
				s["type"] = []any{kind, "null"}
			} else {
				s = object{"oneOf": []any{s, object{"type": "null"}}}
			}
		}
		if c := d.comments[t.Name()+"."+f.Name]; c != "" {
			if _, ref := s["$ref"]; ref {
				s = object{"allOf": []any{s}, "description": c}
			} else {
				s["description"] = c
			}
		}
		properties[name] = s
	}
}

// comments are those of the types that the API speaks in, by type and by field.
func comments(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	one := func(groups ...*ast.CommentGroup) string {
		for _, g := range groups {
			if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
				return text
			}
		}
		return ""
	}
	for _, dir := range []string{".", "../call", "../config", "../approvals"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				decl, ok := n.(*ast.GenDecl)
				if !ok {
					return true
				}
				for _, spec := range decl.Specs {
					s, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					body, ok := s.Type.(*ast.StructType)
					if _, seen := out[s.Name.Name]; !ok || seen {
						continue
					}
					out[s.Name.Name] = one(s.Doc, decl.Doc)
					for _, f := range body.Fields.List {
						for _, name := range f.Names {
							out[s.Name.Name+"."+name.Name] = one(f.Doc, f.Comment)
						}
					}
				}
				return true
			})
		}
	}
	return out
}

// The description tells of every route and type, and of nothing else.
func TestOpenAPI(t *testing.T) {
	patterns := New(Config{}).routes().patterns
	for pattern := range operations {
		if !slices.Contains(patterns, pattern) {
			t.Errorf("%s is described and not served", pattern)
		}
	}
	want := describe(t, patterns)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, description) {
		t.Error("openapi.json is not what the routes and types say; rewrite it with: make golden")
	}
	seen := map[string]bool{}
	for _, op := range operations {
		if seen[op.id] {
			t.Errorf("two operations are called %s", op.id)
		}
		seen[op.id] = true
	}
}

// What the server answers is what the description says, for every operation.
func TestAnswersAreAsDescribed(t *testing.T) {
	var doc any
	if err := json.Unmarshal(description, &doc); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, name string, value any) {
		t.Helper()
		s, err := c.Compile("openapi.json#/components/schemas/" + name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s %s: %v", name, data, err)
		}
	}
	// Each type empty and full.
	for _, op := range operations {
		for _, v := range []any{op.in, op.out} {
			if v == nil {
				continue
			}
			typ := reflect.TypeOf(v)
			if typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			if typ.Kind() != reflect.Struct {
				continue
			}
			name := strings.ToUpper(typ.Name()[:1]) + typ.Name()[1:]
			check(t, name, reflect.New(typ).Interface())
			full := reflect.New(typ)
			fill(full.Elem(), 0)
			check(t, name, full.Interface())
		}
	}
	// And over the wire.
	s := api(t, newDesk(t))
	for path, name := range map[string]string{"/api/v1/status": "Status", "/api/v1/audit": "Audit", "/api/v1/approvals/apr_1": "Approval", "/api/v1/approvals/apr_9": "Problem"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("authorization", "Bearer bob")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		err = json.NewDecoder(resp.Body).Decode(&got)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		check(t, name, got)
	}
}

// fill sets every field to something.
func fill(v reflect.Value, depth int) {
	switch {
	case depth > 6 || !v.CanSet():
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1, 0).UTC()))
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`{"a":1}`))
	case v.Kind() == reflect.String:
		v.SetString("x")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(1)
	case v.CanUint():
		v.SetUint(1)
	case v.CanFloat():
		v.SetFloat(1.5)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	}
}
