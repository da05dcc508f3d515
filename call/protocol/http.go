package protocol

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// routes reads REST requests: method and path name the function; path, query
// and body give its arguments in one flat map, in which no name may come from
// two places. A JSON body that is not an object is the argument "body".
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
	for _, f := range functions {
		if err := r.add(f); err != nil {
			return nil, fmt.Errorf("function %q: %w", f.Name, err)
		}
	}
	return r, nil
}

func (r *routes) add(f Function) error {
	at, params := r.first, []string(nil)
	for _, part := range parts(f.Path) {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			params = append(params, strings.TrimSuffix(name, "}"))
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
		return fmt.Errorf("matches the same requests as %q", other.function)
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
// literal leads nowhere.
func (s *segment) find(path []string, values []string) (*segment, []string) {
	if len(path) == 0 {
		if s.methods == nil {
			return nil, nil
		}
		return s, values
	}
	if next := s.literal[path[0]]; next != nil {
		if found, v := next.find(path[1:], values); found != nil {
			return found, v
		}
	}
	if s.any != nil && path[0] != "" {
		return s.any.find(path[1:], append(values, path[0]))
	}
	return nil, nil
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
	found, values := r.first.find(parts(below), nil)
	if found == nil {
		return Invocation{}, unknown(req)
	}
	to, ok := found.methods[req.Method]
	if !ok {
		return Invocation{}, unknown(req)
	}
	inv := Invocation{Function: to.function, Args: map[string]any{}}
	for i, v := range values {
		// split has refused every escape that could hide a separator.
		decoded, err := url.PathUnescape(v)
		if err != nil || !utf8.ValidString(decoded) {
			return inv, malformed("the path has an escape that is not UTF-8 text")
		}
		inv.Args[to.params[i]] = decoded
	}
	if err := form(inv.Args, "query", query); err != nil {
		return inv, err
	}
	plain := len(inv.Args) == 0
	isObject, err := body(&inv, req)
	if err != nil {
		return inv, err
	}
	if plain && isObject {
		inv.ArgsJSON = req.Body // as sent, every byte was checked
		return inv, nil
	}
	if inv.ArgsJSON, err = json.Marshal(inv.Args); err != nil {
		return inv, malformed("the arguments can't be written as JSON")
	}
	return inv, nil
}

func unknown(req *call.Request) error {
	path, _, _ := strings.Cut(req.Path, "?")
	return &Error{Reason: call.ReasonUnknownFunction, Message: fmt.Sprintf(
		"no function of this connection is %s %s; the connection's functions name what may be called", printable(req.Method), printable(path))}
}

// body adds a body's fields to the arguments and reports whether it is a JSON
// object.
func body(inv *Invocation, req *call.Request) (isObject bool, err error) {
	if len(req.Body) == 0 {
		return false, nil
	}
	if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodTrace}, req.Method) {
		return false, malformed("a %s request with a body is read differently by different servers; send none", req.Method)
	}
	media, err := mediaType(req)
	switch {
	case err != nil:
		return false, err
	case media == "":
		return false, malformed("the body has no content-type; name one, such as application/json")
	case isJSON(media):
		v, err := document(req.Body)
		if err != nil {
			return false, err
		}
		object, is := v.(map[string]any)
		if !is {
			object = map[string]any{"body": v}
		}
		for k, v := range object {
			if _, known := inv.Args[k]; known {
				return false, conflict(k)
			}
			inv.Args[k] = v
		}
		return is, nil
	case media == "application/x-www-form-urlencoded":
		fields := map[string]any{}
		if err := form(fields, "form", string(req.Body)); err != nil {
			return false, err
		}
		for k, v := range fields {
			if _, known := inv.Args[k]; known {
				return false, conflict(k)
			}
			inv.Args[k] = v
		}
		return false, nil
	default:
		// Opaque: recorded and bound, but not judged. It must not be
		// something a function would read as arguments all the same.
		if media == "multipart/form-data" || media == "text/json" {
			return false, malformed("a body of type %s can't be judged yet; send application/json", media)
		}
		return false, nil
	}
}
