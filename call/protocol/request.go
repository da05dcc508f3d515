package protocol

import (
	"mime"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// sane refuses what is ambiguous in any protocol. Names of headers are lower
// case, as in [call.Header].
func sane(req *call.Request) error {
	if !plainAuthority(req.Authority) {
		// Two Host headers arrive as one with a comma, among others.
		return malformed("the host is not one plain name or address; send exactly one Host header")
	}
	var once struct{ contentType, length, encoding, transfer, host, grpc, session, method, name bool }
	for _, h := range req.Headers {
		seen := (*bool)(nil)
		switch h.Name {
		case "content-type":
			seen = &once.contentType
		case "content-length":
			// A body shorter than it says was cut on its way to us.
			if n, err := strconv.ParseUint(h.Value, 10, 63); err != nil || n != uint64(len(req.Body)) {
				return malformed("content-length is not the length of the body that arrived; send the whole body and its length in bytes")
			}
			seen = &once.length
		case "content-encoding":
			if e := strings.TrimSpace(h.Value); e != "" && !strings.EqualFold(e, "identity") {
				return malformed("a request body in content-encoding %s is not accepted; send it plain", printable(e))
			}
			seen = &once.encoding
		case "transfer-encoding":
			seen = &once.transfer
		case "host":
			seen = &once.host
		case "grpc-encoding":
			seen = &once.grpc
		case "mcp-session-id":
			seen = &once.session
		case "mcp-method":
			seen = &once.method
		case "mcp-name":
			seen = &once.name
		case "x-envoy-auth-partial-body":
			if h.Value != "false" {
				return &Error{Reason: call.ReasonBodyTooLarge, Message: "the body is over the connection's max_body; send less, or raise it"}
			}
		case "x-http-method-override", "x-http-method", "x-method-override", "x-original-method":
			return malformed("header %s makes some functions run another method than the one that was judged; leave it out", h.Name)
		case "x-original-url", "x-original-uri", "x-rewrite-url", "x-override-url":
			return malformed("header %s makes some functions act on another path than the one that was judged; leave it out", h.Name)
		}
		if seen == nil {
			continue
		}
		if *seen {
			return malformed("header %s came more than once, and which one counts differs from server to server; send it once", h.Name)
		}
		*seen = true
	}
	return nil
}

// split parts a request target into the path and the query, and refuses paths
// that two servers could resolve differently.
func split(target string) (path, query string, err error) {
	path, query, _ = strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") {
		return "", "", malformed("the path must begin with /")
	}
	text := false // whether bytes beyond ASCII are escaped
	for i := 0; i < len(target); i++ {
		switch c := target[i]; {
		case c == '#':
			return "", "", malformed("the path has a fragment (#), which is never sent")
		case c <= ' ' || c >= 0x7f:
			return "", "", malformed("the path or query has a character that must be percent-encoded")
		case i >= len(path):
		case c == ';' || c == '\\':
			return "", "", malformed("the path has %c, which servers read differently", c)
		case c == '/':
			if err := segmentAt(path, i+1); err != nil {
				return "", "", err
			}
		case c == '%':
			if i+2 >= len(path) {
				return "", "", malformed("the path ends within a percent escape")
			}
			hi, ok1 := nibble(path[i+1])
			lo, ok2 := nibble(path[i+2])
			switch c := hi<<4 | lo; {
			case !ok1 || !ok2:
				return "", "", malformed("the path has a percent sign that is no escape; send %%25")
			case c < ' ' || strings.IndexByte("/\\%;\x7f", c) >= 0:
				return "", "", malformed("the path escapes %s, which servers decode differently; it can't stand in a path", path[i:i+3])
			case unreserved(c):
				return "", "", malformed("the path escapes %s, which needs none; send the character itself", path[i:i+3])
			case c >= utf8.RuneSelf:
				text = true
			}
		}
	}
	if text {
		if plain, err := url.PathUnescape(path); err != nil || !utf8.ValidString(plain) {
			return "", "", malformed("the path escapes bytes that are not UTF-8, which servers repair differently; encode UTF-8")
		}
	}
	return path, query, nil
}

// segmentAt checks the segment of path that begins at i.
func segmentAt(path string, i int) error {
	switch s, _, last := strings.Cut(path[i:], "/"); s {
	case "":
		if last {
			return malformed("the path has an empty segment (//), which servers drop or keep; send one slash")
		}
	case ".", "..":
		return malformed("the path has a dot segment (%s); send the path that is meant", s)
	}
	return nil
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

// mediaType reads the content type of a body, with its charset checked.
func mediaType(req *call.Request) (string, error) {
	declared := req.Headers.Get("content-type")
	if declared == "" || declared == "application/json" {
		return declared, nil
	}
	media, params, err := mime.ParseMediaType(declared)
	if err != nil {
		return "", malformed("content-type can't be read; send one such as application/json")
	}
	switch cs := strings.ToLower(params["charset"]); cs {
	case "", "utf-8", "utf8", "us-ascii":
		return media, nil
	default:
		return "", malformed("a body in charset %s is not accepted; send UTF-8", printable(cs))
	}
}

func isJSON(media string) bool {
	return media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")
}

// looksLikeJSON reports whether a function that does not mind the content type,
// or guesses the encoding, could read an object or list in a body.
func looksLikeJSON(body []byte) bool {
	for _, c := range body {
		switch c {
		case '{', '[':
			return true
		case ' ', '\t', '\r', '\n', '\v', '\f', 0, 0x1e, // a record separator (RFC 7464)
			0xef, 0xbb, 0xbf, 0xfe, 0xff: // byte order marks
		default:
			return false
		}
	}
	return false
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

// plainAuthority reports whether an authority is a name or an address, with or
// without a port (RFC 3986 §3.2.2, without escapes and sub-delimiters).
func plainAuthority(s string) bool {
	host, port := s, ""
	switch end := strings.LastIndexByte(s, ']'); {
	case strings.HasPrefix(s, "["):
		if end < 0 {
			return false
		}
		host, port = s[1:end], s[end+1:]
		if _, err := netip.ParseAddr(host); err != nil || port != "" && port[0] != ':' {
			return false
		}
		host, port = "", strings.TrimPrefix(port, ":")
	default:
		host, port, _ = strings.Cut(s, ":")
	}
	for i := range len(host) {
		if !unreserved(host[i]) {
			return false
		}
	}
	return strings.Trim(port, "0123456789") == ""
}
