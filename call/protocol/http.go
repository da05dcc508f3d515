package protocol

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/callgate/callgate/call"
)

// routes reads REST requests; see [Function] for what becomes of them.
type routes struct {
	base  string
	first *segment
}

// segment is a node of the tree of path templates.
type segment struct {
	literal map[string]*segment
	any     *segment // a {parameter}
	methods map[string]route
}

type route struct {
	function string
	params   []string
}

func newRoutes(base string, functions []Function) (*routes, error) {
	r := &routes{base: strings.TrimSuffix(base, "/"), first: &segment{}}
	if _, _, err := split(r.base + "/"); err != nil {
		return nil, fmt.Errorf("match.path %q could never be requested; write it as callers send it, such as /crm", base)
	}
	for _, f := range functions {
		if err := r.add(f); err != nil {
			return nil, fmt.Errorf("function %q: %w", f.Name, err)
		}
	}
	return r, nil
}

func (r *routes) add(f Function) error {
	if f.Name == "" || f.Method == "" {
		return fmt.Errorf("has no name or no method; set both")
	}
	if _, _, err := split(strings.NewReplacer("{", "", "}", "").Replace(f.Path)); err != nil || strings.Contains(f.Path, "?") {
		return fmt.Errorf("path %q could never be requested; write it as callers send it, percent-encoded and without dot or empty segments", f.Path)
	}
	at, params := r.first, []string(nil)
	for _, part := range parts(f.Path) {
		name, open := strings.CutPrefix(part, "{")
		name, closed := strings.CutSuffix(name, "}")
		if open != closed || strings.ContainsAny(name, "{}") || open && name == "" {
			return fmt.Errorf("path %q: %q must be one whole segment in braces, such as {id}", f.Path, part)
		}
		if open {
			for _, p := range params {
				if canonical(p) == canonical(name) {
					return fmt.Errorf("path %q: {%s} stands twice; give each parameter its own name", f.Path, name)
				}
			}
			params = append(params, name)
			if at.any == nil {
				at.any = &segment{}
			}
			at = at.any
			continue
		}
		if at.literal == nil {
			at.literal = map[string]*segment{}
		}
		if at.literal[part] == nil {
			at.literal[part] = &segment{}
		}
		at = at.literal[part]
	}
	if other, twice := at.methods[f.Method]; twice {
		return fmt.Errorf("matches the same requests as %q; change its method or path", other.function)
	}
	if at.methods == nil {
		at.methods = map[string]route{}
	}
	at.methods[f.Method] = route{function: f.Name, params: params}
	return nil
}

// parts splits a path; "/" has none, and "/a/" has an empty last one, since
// servers may tell it from "/a".
func parts(path string) []string {
	if path == "" || path == "/" {
		return nil
	}
	return strings.Split(path[1:], "/")
}

// find walks the tree, a literal before a parameter, and backs up where the
// literal leads nowhere. The templates bound how often it can.
func (s *segment) find(method string, path, values []string) (route, []string, bool) {
	if len(path) == 0 {
		to, ok := s.methods[method]
		return to, values, ok
	}
	if next := s.literal[path[0]]; next != nil {
		if to, v, ok := next.find(method, path[1:], values); ok {
			return to, v, true
		}
	}
	if s.any != nil && path[0] != "" {
		return s.any.find(method, path[1:], append(values, path[0]))
	}
	return route{}, nil, false
}

func (r *routes) Parse(req *call.Request) (Invocation, error) {
	if err := sane(req); err != nil {
		return Invocation{}, err
	}
	path, query, err := split(req.Path)
	if err != nil {
		return Invocation{}, err
	}
	below, ok := strings.CutPrefix(path, r.base)
	if !ok || below != "" && below[0] != '/' {
		return Invocation{}, unknown(req)
	}
	to, values, ok := r.first.find(req.Method, parts(below), nil)
	if !ok {
		return Invocation{}, unknown(req)
	}
	inv := Invocation{Function: to.function, Args: map[string]any{}, InPath: to.params}
	f := fields{args: inv.Args}
	for i, v := range values {
		// split has refused every escape that could hide a separator.
		plain, err := url.PathUnescape(v)
		if err != nil {
			return inv, malformed("the path has a percent sign that is no escape; send %%25")
		}
		if err := f.claim("path", to.params[i]); err != nil {
			return inv, err
		}
		inv.Args[to.params[i]] = plain
	}
	if err := f.encoded("query", query); err != nil {
		return inv, err
	}
	return inv, inv.body(&f, req)
}

func unknown(req *call.Request) error {
	path, _, _ := strings.Cut(req.Path, "?")
	return &Error{Reason: call.ReasonUnknownFunction, Message: fmt.Sprintf(
		"no function of this connection is %s %s; the connection's functions name what may be called", printable(req.Method), printable(path))}
}

// body adds a body's fields to the arguments and writes them.
func (inv *Invocation) body(f *fields, req *call.Request) error {
	if len(req.Body) == 0 {
		return inv.write()
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodTrace:
		return malformed("a %s request with a body is read differently by different servers; send none", req.Method)
	}
	media, err := mediaType(req)
	switch {
	case err != nil:
		return err
	case media == "":
		return malformed("the body has no content-type; name one, such as application/json")
	case isJSON(media):
		v, err := document(req.Body)
		if err != nil {
			return err
		}
		members, object := v.(map[string]any)
		if !object {
			members = map[string]any{"body": v}
		}
		if err := f.object(members); err != nil {
			return err
		}
		if object && len(inv.Args) == 0 {
			inv.Args, inv.ArgsJSON = members, req.Body // as sent: every byte was checked
			return nil
		}
		if object {
			if inv.ArgsJSON, err = splice(inv.Args, req.Body); err != nil {
				return err
			}
			maps.Copy(inv.Args, members)
			return nil
		}
		maps.Copy(inv.Args, members)
	case looksLikeJSON(req.Body):
		return malformed("the body looks like JSON, which many functions read whatever its type, but is sent as %s; send it as application/json", printable(media))
	case media == "application/x-www-form-urlencoded":
		if err := f.encoded("form", string(req.Body)); err != nil {
			return err
		}
	case media == "multipart/form-data":
		if err := f.multipart(req); err != nil {
			return err
		}
	case strings.HasPrefix(media, "multipart/"):
		return malformed("a body of type %s can't be judged; send application/json", printable(media))
	}
	return inv.write()
}

// write puts the arguments into ArgsJSON.
func (inv *Invocation) write() error {
	if len(inv.Args) == 0 {
		inv.ArgsJSON = json.RawMessage("{}")
		return nil
	}
	var err error
	if inv.ArgsJSON, err = appendJSON(nil, inv.Args); err != nil {
		return malformed("the arguments have a number that JSON can't hold (infinite, or not a number); send another")
	}
	return nil
}
