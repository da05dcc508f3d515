package protocol

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	gqlparser "github.com/vektah/gqlparser/v2/parser"

	"github.com/callgate/callgate/call"
)

// GraphQL bounds what an operation may ask for; zero values are the defaults.
type GraphQL struct {
	MaxDepth   int // fields inside each other. Default 10
	MaxAliases int // Default 15
	MaxFields  int // after fragments are put in. Default 200
	// Introspection lets __schema and __type through.
	Introspection bool
	// Several lets an operation have several fields at its root. One decision
	// then covers all of them, so rules must look at call.args.fields.
	Several bool
}

// graphql reads GraphQL over HTTP: one operation a request, by POST with JSON or
// application/graphql, or by GET. The operation and its root field name the
// function, such as "mutation deleteUser", whatever alias the caller gave it.
type graphql struct{ limits GraphQL }

func newGraphQL(g GraphQL) graphql {
	for limit, def := range map[*int]int{&g.MaxDepth: 10, &g.MaxAliases: 15, &g.MaxFields: 200} {
		if *limit <= 0 {
			*limit = def
		}
	}
	return graphql{g}
}

// gqlRequest is what a request holds.
type gqlRequest struct {
	query, operation string
	variables        map[string]any
}

func (g graphql) Parse(req *call.Request) (Invocation, error) {
	inv := Invocation{Args: map[string]any{}, ArgsJSON: json.RawMessage("{}")}
	if err := sane(req); err != nil {
		return inv, err
	}
	in, err := g.read(req)
	if err != nil {
		return inv, err
	}
	if in.query == "" {
		return inv, malformed("the GraphQL request holds no query; persisted queries can't be judged, send the text")
	}
	// The parser's own errors quote the text.
	doc, parseErr := gqlparser.ParseQueryWithTokenLimit(&ast.Source{Input: in.query}, 15_000)
	if parseErr != nil {
		return inv, malformed("the GraphQL query can't be parsed; check its syntax, and that it has fewer than 15,000 words")
	}
	op, err := choose(doc, in.operation)
	if err != nil {
		return inv, err
	}
	if req.Method == http.MethodGet && op.Operation != ast.Query {
		return inv, malformed("a %s can't be sent with GET; use POST", op.Operation)
	}
	w := gqlWalk{limits: g.limits, doc: doc, variables: in.variables, operation: op, used: map[string]bool{}}
	if err := w.selections(op.SelectionSet, "", 1, nil); err != nil {
		return inv, err
	}
	for _, f := range doc.Fragments {
		if !w.used[f.Name] && len(doc.Operations) == 1 {
			return inv, malformed("the GraphQL fragment %q is not used; leave it out", printable(f.Name))
		}
	}
	switch {
	case len(w.roots) == 0:
		return inv, malformed("the GraphQL operation asks for nothing")
	case len(w.roots) > 1 && !g.limits.Several:
		inv.Function = string(op.Operation) + " *"
		return inv, malformed("the GraphQL operation has %d fields at its root, and one decision can't be right for several; send one at a time", len(w.roots))
	}
	inv.Aliases = w.renamed
	inv.Function = string(op.Operation) + " *"
	if len(w.roots) == 1 {
		inv.Function = string(op.Operation) + " " + w.roots[0]
	}
	inv.Args = map[string]any{"operation": string(op.Operation), "name": op.Name, "fields": list(w.roots), "all_fields": list(w.all), "arguments": w.arguments,
		"variables": in.variables, "depth": int64(w.depth), "aliases": int64(w.aliases)}
	if in.variables == nil {
		inv.Args["variables"] = map[string]any{}
	}
	if w.arguments == nil {
		inv.Args["arguments"] = map[string]any{}
	}
	return inv, inv.write()
}

func list(s []string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

// read takes the query out of the request.
func (g graphql) read(req *call.Request) (gqlRequest, error) {
	_, query, err := split(req.Path)
	if err != nil {
		return gqlRequest{}, err
	}
	if req.Method == http.MethodGet {
		values, err := url.ParseQuery(query)
		if err != nil || len(req.Body) > 0 {
			return gqlRequest{}, malformed("the GraphQL request can't be read; send query, operationName and variables in the URL, or all in a POST")
		}
		for name, v := range values {
			if len(v) != 1 || !slices.Contains([]string{"query", "operationName", "variables", "extensions"}, name) {
				return gqlRequest{}, malformed("%q is not part of a GraphQL request, or stands more than once", printable(name))
			}
		}
		out := gqlRequest{query: values.Get("query"), operation: values.Get("operationName")}
		if text := values.Get("variables"); text != "" {
			v, err := document([]byte(text))
			if err != nil {
				return gqlRequest{}, err
			}
			var ok bool
			if out.variables, ok = v.(map[string]any); !ok {
				return gqlRequest{}, malformed("variables must be a JSON object")
			}
		}
		return out, nil
	}
	if req.Method != http.MethodPost {
		return gqlRequest{}, &Error{Reason: call.ReasonUnknownFunction, Message: "GraphQL uses POST and GET; send one of them"}
	}
	if query != "" {
		return gqlRequest{}, malformed("a GraphQL POST has its query in the body alone; leave the URL's query out")
	}
	media, err := mediaType(req)
	if err != nil {
		return gqlRequest{}, err
	}
	if media == "application/graphql" {
		return gqlRequest{query: string(req.Body)}, nil
	}
	if !isJSON(media) {
		return gqlRequest{}, malformed("a body of type %s is not accepted; send application/json", printable(media))
	}
	v, err := document(req.Body)
	if err != nil {
		return gqlRequest{}, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return gqlRequest{}, malformed("the GraphQL body must be one JSON object; batches are not accepted, send one operation at a time")
	}
	var out gqlRequest
	for name, v := range m {
		ok := true
		switch name {
		case "query":
			out.query, ok = v.(string)
		case "operationName":
			if v != nil {
				out.operation, ok = v.(string)
			}
		case "variables":
			if v != nil {
				out.variables, ok = v.(map[string]any)
			}
		case "extensions":
		default:
			return gqlRequest{}, malformed("%q is not part of a GraphQL request", printable(name))
		}
		if !ok {
			return gqlRequest{}, malformed("%s is not of the type that GraphQL wants", name)
		}
	}
	return out, nil
}

// choose finds the operation that will run.
func choose(doc *ast.QueryDocument, name string) (*ast.OperationDefinition, error) {
	names := map[string]bool{}
	for _, op := range doc.Operations {
		if names[op.Name] || op.Name == "" && len(doc.Operations) > 1 {
			return nil, malformed("the GraphQL document has two operations of one name, or several of which one has none")
		}
		names[op.Name] = true
	}
	fragments := map[string]bool{}
	for _, f := range doc.Fragments {
		if fragments[f.Name] {
			return nil, malformed("the GraphQL document has two fragments of one name")
		}
		fragments[f.Name] = true
	}
	var op *ast.OperationDefinition
	switch {
	case len(doc.Operations) == 0:
		return nil, malformed("the GraphQL document has no operation")
	case name == "" && len(doc.Operations) > 1:
		return nil, malformed("the GraphQL document has several operations; name the one to run (operationName)")
	case name == "":
		op = doc.Operations[0]
	default:
		if op = doc.Operations.ForName(name); op == nil || op.Name != name {
			return nil, malformed("the GraphQL document has no operation of the name in operationName")
		}
	}
	if op.Operation == ast.Subscription {
		return nil, malformed("GraphQL subscriptions are not accepted over HTTP")
	}
	return op, nil
}

// gqlWalk collects what an operation asks for, fragments put in and aliases
// undone. A field that is perhaps skipped (@skip, @include) counts as there.
type gqlWalk struct {
	limits    GraphQL
	doc       *ast.QueryDocument
	operation *ast.OperationDefinition
	variables map[string]any
	used      map[string]bool

	roots, all             []string
	arguments              map[string]any      // of the root fields
	renamed                map[string][]string // by alias
	depth, aliases, fields int
}

func (w *gqlWalk) selections(set ast.SelectionSet, path string, depth int, inside []string) error {
	if depth > w.limits.MaxDepth {
		return malformed("the GraphQL operation is deeper than the %d that this connection takes", w.limits.MaxDepth)
	}
	w.depth = max(w.depth, depth)
	for _, s := range set {
		var err error
		switch x := s.(type) {
		case *ast.Field:
			err = w.field(x, path, depth, inside)
		case *ast.InlineFragment:
			if err = directives(x.Directives); err == nil {
				err = w.selections(x.SelectionSet, path, depth, inside)
			}
		case *ast.FragmentSpread:
			err = w.spread(x, path, depth, inside)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *gqlWalk) spread(x *ast.FragmentSpread, path string, depth int, inside []string) error {
	f := w.doc.Fragments.ForName(x.Name)
	switch {
	case f == nil:
		return malformed("the GraphQL fragment %q is not in the document", printable(x.Name))
	case slices.Contains(inside, x.Name):
		return malformed("the GraphQL fragment %q is inside itself", printable(x.Name))
	}
	w.used[x.Name] = true
	if err := directives(x.Directives); err != nil {
		return err
	}
	return w.selections(f.SelectionSet, path, depth, append(inside[:len(inside):len(inside)], x.Name))
}

func (w *gqlWalk) field(x *ast.Field, path string, depth int, inside []string) error {
	if err := directives(x.Directives); err != nil {
		return err
	}
	if w.fields++; w.fields > w.limits.MaxFields {
		return malformed("the GraphQL operation asks for more than the %d fields that this connection takes", w.limits.MaxFields)
	}
	if x.Alias != "" && x.Alias != x.Name {
		if w.aliases++; w.aliases > w.limits.MaxAliases {
			return malformed("the GraphQL operation has more than the %d aliases that this connection takes", w.limits.MaxAliases)
		}
		if w.renamed == nil {
			w.renamed = map[string][]string{}
		}
		if !slices.Contains(w.renamed[x.Alias], x.Name) {
			w.renamed[x.Alias] = append(w.renamed[x.Alias], x.Name)
		}
	}
	if strings.HasPrefix(x.Name, "__") && x.Name != "__typename" && !w.limits.Introspection {
		return malformed("GraphQL introspection is not allowed here")
	}
	at := strings.TrimPrefix(path+"."+x.Name, ".")
	if !slices.Contains(w.all, at) {
		w.all = append(w.all, at)
	}
	if depth == 1 {
		if err := w.root(x); err != nil {
			return err
		}
	}
	return w.selections(x.SelectionSet, at, depth+1, inside)
}

func (w *gqlWalk) root(x *ast.Field) error {
	w.roots = append(w.roots, x.Name)
	args := map[string]any{}
	for _, a := range x.Arguments {
		if _, twice := args[a.Name]; twice {
			return malformed("the GraphQL argument %q stands twice", printable(a.Name))
		}
		v, err := w.value(a.Value, 0)
		if err != nil {
			return err
		}
		args[a.Name] = v
	}
	if w.arguments == nil {
		w.arguments = map[string]any{}
	}
	if _, twice := w.arguments[x.Name]; twice {
		return malformed("the GraphQL field %q stands twice at the root; send one at a time", printable(x.Name))
	}
	w.arguments[x.Name] = args
	return nil
}

// value is an argument with variables put in.
func (w *gqlWalk) value(v *ast.Value, depth int) (any, error) {
	if depth > maxDepth {
		return nil, malformed("a GraphQL argument is nested too deeply")
	}
	switch v.Kind {
	case ast.Variable:
		if set, ok := w.variables[v.Raw]; ok {
			return set, nil
		}
		def := w.operation.VariableDefinitions.ForName(v.Raw)
		if def == nil {
			return nil, malformed("the GraphQL variable %q is not declared", printable(v.Raw))
		}
		if def.DefaultValue == nil {
			return nil, nil
		}
		return w.value(def.DefaultValue, depth+1)
	case ast.IntValue:
		n, err := strconv.ParseInt(v.Raw, 10, 64)
		if err != nil {
			return nil, malformed("a GraphQL number is larger than 64 bits hold")
		}
		return n, nil
	case ast.FloatValue:
		f, err := strconv.ParseFloat(v.Raw, 64)
		if err != nil {
			return nil, malformed("a GraphQL number is larger than 64 bits hold")
		}
		return f, nil
	case ast.BooleanValue:
		return v.Raw == "true", nil
	case ast.NullValue:
		return nil, nil
	case ast.ListValue:
		out := []any{}
		for _, c := range v.Children {
			e, err := w.value(c.Value, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, nil
	case ast.ObjectValue:
		out := map[string]any{}
		for _, c := range v.Children {
			if _, twice := out[c.Name]; twice {
				return nil, malformed("the GraphQL field %q of an argument stands twice", printable(c.Name))
			}
			e, err := w.value(c.Value, depth+1)
			if err != nil {
				return nil, err
			}
			out[c.Name] = e
		}
		return out, nil
	}
	return v.Raw, nil // strings, block strings and enums
}

// directives lets those through that the specification has for queries. Others,
// such as @defer, change how the answer comes.
func directives(list ast.DirectiveList) error {
	for _, d := range list {
		if d.Name != "include" && d.Name != "skip" {
			return malformed("the GraphQL directive @%s is not accepted here", printable(d.Name))
		}
	}
	return nil
}

// graphql is a denial as GraphQL's clients show it.
func (out *Denial) graphql(s shape, detail string, id call.ID, d call.Decision) {
	if s.status != http.StatusUnauthorized && s.status != http.StatusServiceUnavailable {
		out.Status = http.StatusOK // clients read errors only then
	}
	out.Headers = append(out.Headers, call.Header{Name: "content-type", Value: "application/json"})
	type gqlError struct {
		Message    string `json:"message"`
		Extensions extra  `json:"extensions"`
	}
	out.Body = marshal(struct {
		Errors []gqlError `json:"errors"`
		Data   any        `json:"data"`
	}{[]gqlError{{detail, extraOf(id, d)}}, nil})
}
