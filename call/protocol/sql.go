package protocol

import (
	"net/http"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/sql"
)

// sqlBody reads requests whose body is an SQL text, as ClickHouse's HTTP
// interface and its like take it. What the text does names the function:
// "select", "delete", "ddl" …, or "multiple".
type sqlBody struct{ dialect sql.Dialect }

func (s sqlBody) Parse(req *call.Request) (Invocation, error) {
	if err := sane(req); err != nil {
		return Invocation{}, err
	}
	_, query, err := split(req.Path)
	if err != nil {
		return Invocation{}, err
	}
	if req.Method != http.MethodPost {
		return Invocation{}, &Error{Reason: call.ReasonUnknownFunction, Message: "SQL is sent with POST, as the body"}
	}
	inv := Invocation{Args: map[string]any{}}
	f := fields{args: inv.Args}
	if err := f.encoded("query", query); err != nil {
		return inv, err
	}
	for name := range inv.Args {
		// A server would put it before the body, and run something else.
		if c := canonical(name); c == "query" || strings.HasPrefix(c, "param_query") {
			return inv, malformed("the SQL stands in the URL (%s); send it as the body alone", printable(name))
		}
	}
	media, err := mediaType(req)
	if err != nil {
		return inv, err
	}
	switch media {
	case "", "text/plain", "application/sql", "application/x-www-form-urlencoded": // curl's default
	default:
		return inv, malformed("a body of type %s is not SQL; send text/plain", printable(media))
	}
	list, err := sql.Parse(s.dialect, string(req.Body))
	if err != nil {
		return inv, malformed("%v", err)
	}
	inv.Function = "multiple"
	if len(list) == 1 {
		inv.Function = string(list[0].Kind())
	}
	var kinds, tables, functions []any
	readonly := true
	for _, st := range list {
		for _, k := range st.Kinds {
			kinds = append(kinds, string(k))
		}
		for _, t := range st.Tables {
			tables = append(tables, t)
		}
		for _, fn := range st.Functions {
			functions = append(functions, fn)
		}
		readonly = readonly && st.ReadOnly()
	}
	settings := map[string]any{}
	for name, v := range inv.Args {
		settings[name] = v
	}
	inv.Args = map[string]any{"query": string(req.Body), "kinds": orEmpty(kinds), "tables": orEmpty(tables), "functions": orEmpty(functions),
		"statements": int64(len(list)), "readonly": readonly, "settings": settings}
	return inv, inv.write()
}

func orEmpty(list []any) []any {
	if list == nil {
		return []any{}
	}
	return list
}
