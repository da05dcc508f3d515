package protocol

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

func crm(t testing.TB) Parser {
	t.Helper()
	p, err := New(Config{Protocol: call.HTTP, BasePath: "/crm", Functions: []Function{
		{"customers.get", "GET", "/customers/{id}"},
		{"customers.search", "GET", "/customers/search"},
		{"customers.delete", "DELETE", "/customers/{id}"},
		{"notes.get", "GET", "/customers/{customer}/notes/{id}"},
		{"notes.drafts", "GET", "/customers/drafts/{kind}/{id}"},
		{"refunds.create", "POST", "/refunds"},
		{"refunds.change", "POST", "/refunds/{id}"},
		{"root", "GET", "/"},
		{"slash", "GET", "/slash/"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// request makes a request from "METHOD target", headers in pairs, and a body.
func request(line, body string, headers ...string) *call.Request {
	method, target, _ := strings.Cut(line, " ")
	r := &call.Request{Method: method, Path: target, Body: []byte(body)}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Headers = append(r.Headers, call.Header{Name: headers[i], Value: headers[i+1]})
	}
	return r
}

const (
	jsonBody = "application/json"
	formBody = "application/x-www-form-urlencoded"
)

func TestHTTP(t *testing.T) {
	for name, tt := range map[string]struct {
		line, contentType, body string
		function, args          string
	}{
		"path":                   {"GET /crm/customers/7", "", "", "customers.get", `{"id":"7"}`},
		"literal wins":           {"GET /crm/customers/search?q=x", "", "", "customers.search", `{"q":"x"}`},
		"literal of one method":  {"DELETE /crm/customers/search", "", "", "customers.delete", `{"id":"search"}`},
		"back from a literal":    {"GET /crm/customers/drafts/notes/1", "", "", "notes.drafts", `{"kind":"notes","id":"1"}`},
		"back to a parameter":    {"GET /crm/customers/search/notes/1", "", "", "notes.get", `{"customer":"search","id":"1"}`},
		"escaped":                {"GET /crm/customers/caf%C3%A9%20%3Fx", "", "", "customers.get", `{"id":"café ?x"}`},
		"query":                  {"GET /crm/customers/search?a=1&b=x+y%26&c", "", "", "customers.search", `{"a":"1","b":"x y&","c":""}`},
		"repeated":               {"GET /crm/customers/search?a=1&b=2&a=3&a=", "", "", "customers.search", `{"a":["1","3",""],"b":"2"}`},
		"nested query":           {"GET /crm/customers/search?f[a]=1&f[b]=2&f[b]=3", "", "", "customers.search", `{"f[a]":"1","f[b]":["2","3"]}`},
		"json":                   {"POST /crm/refunds", jsonBody, `{"amount": 5, "to": {"x": [1.5]}}`, "refunds.create", `{"amount":5,"to":{"x":[1.5]}}`},
		"json of another type":   {"POST /crm/refunds", "application/vnd.api+json; charset=UTF-8", `{"a":null}`, "refunds.create", `{"a":null}`},
		"json list":              {"POST /crm/refunds", jsonBody, `[1,2]`, "refunds.create", `{"body":[1,2]}`},
		"json text":              {"POST /crm/refunds", jsonBody, `"x"`, "refunds.create", `{"body":"x"}`},
		"json and path":          {"POST /crm/refunds/r1?dry=1", jsonBody, ` {"amount":5,"a":{"b":"<"}} `, "refunds.change", `{"id":"r1","dry":"1","amount":5,"a":{"b":"<"}}`},
		"empty json and path":    {"POST /crm/refunds/r1", jsonBody, `{ }`, "refunds.change", `{"id":"r1"}`},
		"json list and path":     {"POST /crm/refunds/r1", jsonBody, `[]`, "refunds.change", `{"id":"r1","body":[]}`},
		"empty json":             {"POST /crm/refunds", jsonBody, `{}`, "refunds.create", `{}`},
		"no body":                {"POST /crm/refunds", jsonBody, ``, "refunds.create", `{}`},
		"form":                   {"POST /crm/refunds", formBody, `amount=5&to=x%3Dy`, "refunds.create", `{"amount":"5","to":"x=y"}`},
		"delete with body":       {"DELETE /crm/customers/7", jsonBody, `{"why":"x"}`, "customers.delete", `{"id":"7","why":"x"}`},
		"opaque":                 {"POST /crm/refunds", "text/csv", "amount\n5000", "refunds.create", `{}`},
		"opaque, binary":         {"POST /crm/refunds", "application/octet-stream", "\xff\xd8\xff", "refunds.create", `{}`},
		"root":                   {"GET /crm", "", "", "root", `{}`},
		"root with slash":        {"GET /crm/", "", "", "root", `{}`},
		"template with slash":    {"GET /crm/slash/", "", "", "slash", `{}`},
		"percent in a query":     {"GET /crm/customers/search?q=100%25", "", "", "customers.search", `{"q":"100%"}`},
		"sub-delims in the path": {"GET /crm/customers/a,b:c@d!$&'()*+=", "", "", "customers.get", `{"id":"a,b:c@d!$\u0026'()*+="}`},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(tt.line, tt.body)
			if tt.contentType != "" {
				req.Headers = append(req.Headers, call.Header{Name: "content-type", Value: tt.contentType})
			}
			inv, err := crm(t).Parse(req)
			if err != nil {
				t.Fatal(err)
			}
			if inv.Function != tt.function {
				t.Errorf("function %q, want %q", inv.Function, tt.function)
			}
			same(t, inv, tt.args)
		})
	}
}

// same checks that an invocation's arguments, and their JSON, are want.
func same(t *testing.T, inv Invocation, want string) {
	t.Helper()
	args, err := document([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(any(inv.Args), args) {
		t.Errorf("args %#v, want %s", inv.Args, want)
	}
	if written, err := document(inv.ArgsJSON); err != nil || !reflect.DeepEqual(written, args) {
		t.Errorf("args as JSON %s (%v), want %s", inv.ArgsJSON, err, want)
	}
}

// attack is a request that must be refused, with a part of what its sender is
// told. To add one is to add a line.
type attack struct {
	line    string
	headers []string
	body    string
	reason  call.Reason
	says    string
}

const (
	bad  = call.ReasonMalformedRequest
	none = call.ReasonUnknownFunction
)

var httpAttacks = map[string]attack{
	"outside the base":         {"GET /other/customers/7", nil, "", none, "no function"},
	"base as a prefix of text": {"GET /crmx/customers/7", nil, "", none, "no function"},
	"base without a slash":     {"GET /crmxcustomers/7", nil, "", none, "no function"},
	"other method":             {"PUT /crm/customers/7", nil, "", none, "PUT /crm/customers/7"},
	"head for get":             {"HEAD /crm/customers/7", nil, "", none, "no function"},
	"method in lower case":     {"get /crm/customers/7", nil, "", none, "no function"},
	"path in another case":     {"GET /crm/Customers/7", nil, "", none, "no function"},
	"slash at the end":         {"GET /crm/customers/7/", nil, "", none, "no function"},
	"empty parameter":          {"GET /crm/customers/", nil, "", none, "no function"},
	"path too long":            {"GET /crm/customers/7/x", nil, "", none, "no function"},

	"dot dot":                {"GET /crm/customers/../refunds", nil, "", bad, "dot segment"},
	"dot dot at the end":     {"GET /crm/customers/..", nil, "", bad, "dot segment"},
	"dot":                    {"GET /crm/./customers/7", nil, "", bad, "dot segment"},
	"dots escaped":           {"GET /crm/customers/%2e%2e", nil, "", bad, "%2e"},
	"dots half escaped":      {"GET /crm/customers/.%2E", nil, "", bad, "%2E"},
	"dots with parameter":    {"GET /crm/customers/..;/7", nil, "", bad, ";"},
	"dots with parameter, 2": {"GET /crm/customers/.%3b./7", nil, "", bad, "%3b"},
	"slash escaped":          {"GET /crm/customers/a%2fb", nil, "", bad, "%2f"},
	"slash escaped, upper":   {"GET /crm/customers/a%2Fb", nil, "", bad, "%2F"},
	"slash, double escape":   {"GET /crm/customers/a%252fb", nil, "", bad, "%25"},
	"backslash":              {`GET /crm/customers/a\b`, nil, "", bad, `\`},
	"backslash escaped":      {"GET /crm/customers/a%5cb", nil, "", bad, "%5c"},
	"NUL":                    {"GET /crm/customers/a%00b", nil, "", bad, "%00"},
	"newline":                {"GET /crm/customers/a%0ab", nil, "", bad, "%0a"},
	"delete":                 {"GET /crm/customers/a%7fb", nil, "", bad, "%7f"},
	"letter escaped":         {"GET /crm/%63ustomers/7", nil, "", bad, "%63"},
	"path parameter":         {"GET /crm/customers/7;v=2", nil, "", bad, ";"},
	"empty segment":          {"GET /crm//customers/7", nil, "", bad, "//"},
	"two slashes first":      {"GET //crm/customers/7", nil, "", bad, "//"},
	"two slashes last":       {"GET /crm/customers/7//", nil, "", bad, "//"},
	"authority in the path":  {"GET //evil/crm/customers/7", nil, "", bad, "//"},
	"absolute form":          {"GET http://crm/customers/7", nil, "", bad, "begin with /"},
	"asterisk":               {"OPTIONS *", nil, "", bad, "begin with /"},
	"no path":                {"GET ", nil, "", bad, "begin with /"},
	"fragment":               {"GET /crm/customers/7#x", nil, "", bad, "fragment"},
	"fragment in a query":    {"GET /crm/customers/search?a#b", nil, "", bad, "fragment"},
	"escape cut":             {"GET /crm/customers/7%4", nil, "", bad, "ends within"},
	"escape cut by a query":  {"GET /crm/customers/7%?41", nil, "", bad, "ends within"},
	"no escape":              {"GET /crm/customers/7%zz", nil, "", bad, "no escape"},
	"overlong slash":         {"GET /crm/customers/a%c0%afb", nil, "", bad, "UTF-8"},
	"latin-1":                {"GET /crm/customers/caf%e9", nil, "", bad, "UTF-8"},
	"raw bytes":              {"GET /crm/customers/caf\xc3\xa9", nil, "", bad, "percent-encoded"},
	"space":                  {"GET /crm/customers/a b", nil, "", bad, "percent-encoded"},
	"tab":                    {"GET /crm/customers/a\tb", nil, "", bad, "percent-encoded"},
	"raw bytes in a query":   {"GET /crm/customers/search?q=\xff", nil, "", bad, "percent-encoded"},

	"query no escape":         {"GET /crm/customers/search?q=%zz", nil, "", bad, "no escape"},
	"query not UTF-8":         {"GET /crm/customers/search?q=%ff", nil, "", bad, "UTF-8"},
	"query NUL":               {"GET /crm/customers/search?q=%00", nil, "", bad, "NUL"},
	"query semicolon":         {"GET /crm/customers/search?a=1;b=2", nil, "", bad, "%3B"},
	"query without a name":    {"GET /crm/customers/search?=1", nil, "", bad, "without a name"},
	"query by case":           {"GET /crm/customers/search?a=1&A=2", nil, "", bad, "one argument"},
	"query list":              {"GET /crm/customers/search?a=1&a[]=2", nil, "", bad, "one argument"},
	"query list first":        {"GET /crm/customers/search?a%5B%5D=2&a=1", nil, "", bad, "one argument"},
	"query nested by case":    {"GET /crm/customers/search?a[b]=2&a[B]=1", nil, "", bad, "one argument"},
	"query dot, underscore":   {"GET /crm/customers/search?a.b=2&a_b=1", nil, "", bad, "one argument"},
	"query space":             {"GET /crm/customers/search?amount=2&+amount=1", nil, "", bad, "one argument"},
	"query space, underscore": {"GET /crm/customers/search?a+b=2&a_b=1", nil, "", bad, "one argument"},
	"path and query":          {"GET /crm/customers/7?id=8", nil, "", bad, "two places"},
	"path and query, case":    {"GET /crm/customers/7?ID=8", nil, "", bad, "two places"},
	"path and query, list":    {"GET /crm/customers/7?id[]=8", nil, "", bad, "two places"},
	"path and json":           {"POST /crm/refunds/7", []string{"content-type", jsonBody}, `{"id":8}`, bad, "two places"},
	"path and json, case":     {"POST /crm/refunds/7", []string{"content-type", jsonBody}, `{"Id":8}`, bad, "two places"},
	"query and json":          {"POST /crm/refunds?amount=5", []string{"content-type", jsonBody}, `{"amount":5000}`, bad, "two places"},
	"query and json, list":    {"POST /crm/refunds?amount[]=5", []string{"content-type", jsonBody}, `{"amount":5000}`, bad, "two places"},
	"query and body list":     {"POST /crm/refunds?body=5", []string{"content-type", jsonBody}, `[1]`, bad, "two places"},
	"query and form":          {"POST /crm/refunds?amount=5", []string{"content-type", formBody}, `amount=5000`, bad, "two places"},
	"form semicolon":          {"POST /crm/refunds", []string{"content-type", formBody}, `amount=5;amount=5000`, bad, "%3B"},
	"form by case":            {"POST /crm/refunds", []string{"content-type", formBody}, `amount=5&Amount=5000`, bad, "one argument"},
	"override in a query":     {"POST /crm/refunds?_method=DELETE", nil, "", bad, "_method"},
	"override in a form":      {"POST /crm/refunds", []string{"content-type", formBody}, "_Method=DELETE", bad, "_method"},
	"override in json":        {"POST /crm/refunds", []string{"content-type", jsonBody}, `{"_method":"DELETE"}`, bad, "_method"},
	"override header":         {"POST /crm/refunds", []string{"x-http-method-override", "DELETE"}, "", bad, "x-http-method-override"},
	"override header, empty":  {"POST /crm/refunds", []string{"x-http-method-override", ""}, "", bad, "x-http-method-override"},
	"override header, 2":      {"POST /crm/refunds", []string{"x-http-method", "DELETE"}, "", bad, "x-http-method"},
	"override header, 3":      {"POST /crm/refunds", []string{"x-method-override", "DELETE"}, "", bad, "x-method-override"},
	"path header":             {"POST /crm/refunds", []string{"x-original-url", "/admin"}, "", bad, "x-original-url"},
	"path header, 2":          {"POST /crm/refunds", []string{"x-rewrite-url", "/admin"}, "", bad, "x-rewrite-url"},
	"body of a get":           {"GET /crm/customers/7", []string{"content-type", jsonBody}, `{"a":1}`, bad, "GET request with a body"},
	"body without type":       {"POST /crm/refunds", nil, `{"amount":5000}`, bad, "no content-type"},
	"json as text":            {"POST /crm/refunds", []string{"content-type", "text/plain"}, `{"amount":5000}`, bad, "looks like JSON"},
	"json as a form":          {"POST /crm/refunds", []string{"content-type", formBody}, `{"amount":5000}`, bad, "looks like JSON"},
	"json as bytes":           {"POST /crm/refunds", []string{"content-type", "application/octet-stream"}, " \r\n{\"amount\":5000}", bad, "looks like JSON"},
	"json with a mark":        {"POST /crm/refunds", []string{"content-type", "text/plain"}, "\xef\xbb\xbf{\"amount\":5000}", bad, "looks like JSON"},
	"json in UTF-16":          {"POST /crm/refunds", []string{"content-type", "text/plain"}, "\xff\xfe{\x00\"\x00", bad, "looks like JSON"},
	"json in UTF-32":          {"POST /crm/refunds", []string{"content-type", "text/plain"}, "\x00\x00\x00{\x00\x00\x00\"", bad, "looks like JSON"},
	"json list as text":       {"POST /crm/refunds", []string{"content-type", "text/json"}, `[1]`, bad, "looks like JSON"},
	"json sequence":           {"POST /crm/refunds", []string{"content-type", "application/json-seq"}, "\x1e{}", bad, "looks like JSON"},
	"text as json":            {"POST /crm/refunds", []string{"content-type", jsonBody}, `amount=5000`, bad, "not valid JSON"},
	"multipart":               {"POST /crm/refunds", []string{"content-type", "multipart/form-data; boundary=x"}, "--x", bad, "multipart"},
	"type unreadable":         {"POST /crm/refunds", []string{"content-type", "application/json, text/plain"}, `{}`, bad, "can't be read"},
	"type twice joined":       {"POST /crm/refunds", []string{"content-type", "application/json,application/json"}, `{}`, bad, "can't be read"},
	"type twice":              {"POST /crm/refunds", []string{"content-type", jsonBody, "content-type", "text/plain"}, `{}`, bad, "more than once"},
	"host twice":              {"GET /crm/customers/7", []string{"host", "a", "host", "a"}, "", bad, "more than once"},
	"charset":                 {"POST /crm/refunds", []string{"content-type", "application/json; charset=utf-16"}, `{}`, bad, "utf-16"},
	"charset twice":           {"POST /crm/refunds", []string{"content-type", "application/json; charset=utf-8; charset=utf-7"}, `{}`, bad, "can't be read"},
	"charset, extended":       {"POST /crm/refunds", []string{"content-type", "application/json; charset*=us-ascii'en'utf-7"}, `{}`, bad, "utf-7"},
	"encoded":                 {"POST /crm/refunds", []string{"content-type", jsonBody, "content-encoding", "gzip"}, "\x1f\x8b", bad, "content-encoding gzip"},
	"encoded, behind another": {"POST /crm/refunds", []string{"content-type", jsonBody, "content-encoding", "identity, gzip"}, `{}`, bad, "content-encoding"},
	"encoded, twice":          {"POST /crm/refunds", []string{"content-type", jsonBody, "content-encoding", "identity", "content-encoding", "identity"}, `{}`, bad, "more than once"},
	"length twice":            {"POST /crm/refunds", []string{"content-type", jsonBody, "content-length", "2", "content-length", "2"}, `{}`, bad, "more than once"},
	"length over the body":    {"POST /crm/refunds", []string{"content-type", jsonBody, "content-length", "5"}, `{}`, bad, "content-length"},
	"length under the body":   {"POST /crm/refunds", []string{"content-type", jsonBody, "content-length", "1"}, `{}`, bad, "content-length"},
	"length with a sign":      {"POST /crm/refunds", []string{"content-type", jsonBody, "content-length", "+2"}, `{}`, bad, "content-length"},
	"partial body":            {"POST /crm/refunds", []string{"content-type", jsonBody, "x-envoy-auth-partial-body", "true"}, `{}`, call.ReasonBodyTooLarge, "max_body"},
	"key twice":               {"POST /crm/refunds", []string{"content-type", jsonBody}, `{"a":1,"a":2}`, bad, "key twice"},
}

func TestHTTPAttacks(t *testing.T) { attacks(t, crm(t), httpAttacks) }

func attacks(t *testing.T, p Parser, table map[string]attack) {
	for name, tt := range table {
		t.Run(name, func(t *testing.T) {
			inv, err := p.Parse(request(tt.line, tt.body, tt.headers...))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %+v, %v; want an *Error", inv, err)
			}
			if e.Reason != tt.reason || !strings.Contains(e.Message, tt.says) {
				t.Errorf("got %s: %s; want %s with %q", e.Reason, e.Message, tt.reason, tt.says)
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	for name, tt := range map[string]struct {
		base      string
		functions []Function
		says      string
	}{
		"same":            {"/", []Function{{"a", "GET", "/x/{id}"}, {"b", "GET", "/x/{name}"}}, `function "b": matches the same requests as "a"`},
		"parameter twice": {"/", []Function{{"a", "GET", "/{id}/{ID}"}}, "stands twice"},
		"part of segment": {"/", []Function{{"a", "GET", "/x{id}"}}, "one whole segment"},
		"empty parameter": {"/", []Function{{"a", "GET", "/{}"}}, "one whole segment"},
		"open brace":      {"/", []Function{{"a", "GET", "/{id"}}, "one whole segment"},
		"dot segment":     {"/", []Function{{"a", "GET", "/../x"}}, "could never be requested"},
		"escape":          {"/", []Function{{"a", "GET", "/a%2fb"}}, "could never be requested"},
		"query":           {"/", []Function{{"a", "GET", "/a?b=c"}}, "could never be requested"},
		"no slash":        {"/", []Function{{"a", "GET", "a"}}, "could never be requested"},
		"no method":       {"/", []Function{{"a", "", "/a"}}, "no method"},
		"base":            {"/a//b", nil, "could never be requested"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Config{Protocol: call.HTTP, BasePath: tt.base, Functions: tt.functions})
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
	if _, err := New(Config{Protocol: "soap"}); err == nil || !strings.Contains(err.Error(), "choose http") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Config{Protocol: call.GRPC}); err == nil {
		t.Error("a grpc parser without descriptors")
	}
}

// Whatever is accepted: the arguments are the JSON that is recorded, none of
// them is lost, and none appears that the request does not hold.
func FuzzHTTP(f *testing.F) {
	f.Add("POST", "/crm/refunds/1?a=1", jsonBody, []byte(`{"b":2}`))
	f.Add("POST", "/crm/refunds", formBody, []byte(`b=2&c[]=3&c[]=4`))
	for _, tt := range httpAttacks {
		method, target, _ := strings.Cut(tt.line, " ")
		contentType := jsonBody
		if len(tt.headers) == 2 && tt.headers[0] == "content-type" {
			contentType = tt.headers[1]
		}
		f.Add(method, target, contentType, []byte(tt.body))
	}
	p := crm(f)
	f.Fuzz(func(t *testing.T, method, target, contentType string, body []byte) {
		req := request(method+" "+target, string(body), "content-type", contentType)
		inv, err := p.Parse(req)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("%T is no *Error with a message", err)
			}
			return
		}
		replayed(t, inv)
		var written map[string]any
		dec := json.NewDecoder(strings.NewReader(string(inv.ArgsJSON)))
		dec.UseNumber()
		if err := dec.Decode(&written); err != nil {
			t.Fatalf("args as JSON %q: %v", inv.ArgsJSON, err)
		}
		if got := plain(t, written); !reflect.DeepEqual(got, any(inv.Args)) {
			t.Fatalf("args %#v, as JSON %#v", inv.Args, got)
		}
		if strings.ContainsAny(strings.SplitN(target, "?", 2)[0], ";\\") {
			t.Fatal("an ambiguous path went through")
		}
		if json.Valid(body) && len(body) > 0 && isJSON(contentType) {
			var object map[string]any
			if json.Unmarshal(body, &object) == nil {
				for k := range maps.Keys(object) {
					if _, has := inv.Args[k]; !has {
						t.Fatalf("argument %q is lost", k)
					}
				}
			}
		}
	})
}
