package protocol

import (
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// single are headers that must not come twice: which of two wins differs from
// server to server.
var single = []string{"content-type", "content-length", "content-encoding", "transfer-encoding", "host", "grpc-encoding", "mcp-session-id"}

// overrides are headers that make some frameworks run another method than the
// one on the request line.
var overrides = []string{"x-http-method-override", "x-http-method", "x-method-override"}

// rewrites are headers that make some frameworks route by another path or host.
var rewrites = []string{"x-original-url", "x-rewrite-url"}

// sane refuses what is ambiguous in any protocol.
func sane(req *call.Request) error {
	for _, name := range single {
		if n := len(req.Headers.Values(name)); n > 1 {
			return malformed("header %s came %d times; send it once", name, n)
		}
	}
	for _, list := range [][]string{overrides, rewrites} {
		for _, name := range list {
			if len(req.Headers.Values(name)) > 0 {
				return malformed("header %s would make the function act on another request than the one that was judged; leave it out", name)
			}
		}
	}
	if e := strings.ToLower(strings.TrimSpace(req.Headers.Get("content-encoding"))); e != "" && e != "identity" {
		return malformed("a request body in content-encoding %s is not accepted; send it plain", printable(e))
	}
	return nil
}

// split parts a request target into the path and the query, and refuses paths
// that two servers could resolve differently.
func split(target string) (path, query string, err error) {
	path, query, _ = strings.Cut(target, "?")
	if strings.Contains(target, "#") {
		return "", "", malformed("the path has a fragment (#), which is never sent")
	}
	if !strings.HasPrefix(path, "/") {
		return "", "", malformed("the path must begin with /")
	}
	for i, segment := range strings.Split(path[1:], "/") {
		switch {
		case segment == "" && i > 0 && !strings.HasSuffix(path, "/"), strings.Contains(path, "//"):
			return "", "", malformed("the path has an empty segment (//)")
		case segment == "." || segment == "..":
			return "", "", malformed("the path has a dot segment")
		case strings.ContainsAny(segment, ";\\"):
			return "", "", malformed("the path has ; or \\, which servers read differently")
		}
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f {
			return "", "", malformed("the path has a character that must be percent-encoded")
		}
		if path[i] != '%' {
			continue
		}
		if i+2 >= len(path) {
			return "", "", malformed("the path ends within a percent escape")
		}
		c, ok := unhex(path[i+1], path[i+2])
		switch {
		case !ok:
			return "", "", malformed("the path has a percent sign that is no escape")
		case c < ' ' || c == 0x7f || c == '/' || c == '\\' || c == '%' || c == ';':
			return "", "", malformed("the path escapes %s, which servers decode differently", path[i:i+3])
		case unreserved(c):
			return "", "", malformed("the path escapes %s, which needs none; send the character itself", path[i:i+3])
		}
	}
	return path, query, nil
}

func unhex(a, b byte) (byte, bool) {
	hi, ok1 := nibble(a)
	lo, ok2 := nibble(b)
	return hi<<4 | lo, ok1 && ok2
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unreserved is RFC 3986 §2.3: an escape of these means the character itself.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// form adds the fields of a query or a form body to args. A field that comes
// several times is a list.
func form(args map[string]any, what, text string) error {
	if text == "" {
		return nil
	}
	if strings.Contains(text, ";") {
		return malformed("the %s has a bare ;, which some servers take for a separator; escape it as %%3B", what)
	}
	here := map[string]bool{}
	for _, pair := range strings.Split(text, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		key, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return malformed("the %s has an escape that is not UTF-8 text", what)
		}
		if strings.ContainsRune(key, 0) || strings.ContainsRune(value, 0) {
			return malformed("the %s has a NUL character", what)
		}
		if key == "_method" {
			return malformed("the %s has _method, which would make some functions act on another method; leave it out", what)
		}
		switch old, known := args[key]; {
		case !known:
			args[key] = value
		case !here[key]:
			return conflict(key)
		default:
			if list, is := old.([]any); is {
				args[key] = append(list, value)
			} else {
				args[key] = []any{old, value}
			}
		}
		here[key] = true
	}
	return nil
}

func conflict(key string) error {
	return malformed("argument %q comes from two places (path, query or body); send it in one", printable(key))
}

// mediaType reads the content type of a body, with its charset checked.
func mediaType(req *call.Request) (string, error) {
	declared := req.Headers.Get("content-type")
	if declared == "" {
		return "", nil
	}
	media, params, err := mime.ParseMediaType(declared)
	if err != nil {
		return "", malformed("content-type can't be read; send one such as application/json")
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" && cs != "us-ascii" {
		return "", malformed("a body in charset %s is not accepted; send UTF-8", printable(cs))
	}
	return media, nil
}

func isJSON(media string) bool {
	return media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")
}

// printable makes a caller's text fit to be quoted in a message.
func printable(s string) string {
	const most = 64
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if len(clean) > most {
		clean = strings.ToValidUTF8(clean[:most], "") + "…"
	}
	return clean
}
