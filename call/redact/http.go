package redact

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
)

// Target hides credentials in a path and query.
func (r *Redactor) Target(target string) (string, Hidden) {
	var hidden Hidden
	path, query, has := strings.Cut(target, "?")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = r.segment(s, &hidden)
	}
	out := strings.Join(segments, "/")
	if !has {
		return out, hidden
	}
	var b strings.Builder
	b.WriteString(out)
	b.WriteByte('?')
	for query != "" {
		// Some services take ";" for "&", and a second "?" is part of a name.
		end := strings.IndexAny(query, "&;#")
		pair, separator := query, ""
		if end >= 0 {
			pair, separator = query[:end], query[end:end+1]
		}
		query = query[len(pair)+len(separator):]
		b.WriteString(r.pair(pair, &hidden))
		b.WriteString(separator)
	}
	return b.String(), hidden
}

// Form hides credentials in an application/x-www-form-urlencoded body.
func (r *Redactor) Form(body string) (string, Hidden) {
	out, hidden := r.Target("?" + body)
	return strings.TrimPrefix(out, "?"), hidden
}

// segment hides credentials in one segment of a path: the whole, or its
// parameters (";jsessionid=…").
func (r *Redactor) segment(s string, hidden *Hidden) string {
	parts := strings.Split(s, ";")
	for i, p := range parts {
		switch {
		case i > 0:
			parts[i] = r.pair(p, hidden)
		case carries(p):
			parts[i] = r.Secret(unescaped(p, url.PathUnescape))
		}
	}
	if out := strings.Join(parts, ";"); out != s {
		// As an argument it is one text, parameters and all.
		hidden.values = append(hidden.values, unescaped(s, url.PathUnescape))
		return out
	}
	return s
}

// pair hides the value of a parameter where it is a credential.
func (r *Redactor) pair(pair string, hidden *Hidden) string {
	name, value, has := strings.Cut(pair, "=")
	names, deep := levels(strings.TrimLeft(name, "?"))
	plain := names[min(1, len(names)-1)]
	_, err := url.QueryUnescape(name)
	switch {
	case carries(name):
		hidden.names = append(hidden.names, plain)
		return r.Secret(unescaped(pair, url.QueryUnescape))
	case !has, value == "", err == nil && !deep && !slices.ContainsFunc(names, queryName) && !carries(value):
		return pair
	}
	hidden.names = append(hidden.names, plain)
	return name + "=" + r.Secret(unescaped(value, url.QueryUnescape))
}

// unescaped is s decoded, or s where it can't be.
func unescaped(s string, decode func(string) (string, error)) string {
	if plain, err := decode(s); err == nil {
		return plain
	}
	return s
}

// Authority hides a user and password in an authority.
func (r *Redactor) Authority(authority string) string {
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		return r.Secret(authority[:i]) + authority[i:]
	}
	return authority
}

// Headers are the fields with credentials hidden. Names are lower case.
func (r *Redactor) Headers(h call.Headers) call.Headers {
	out := make(call.Headers, len(h))
	for i, f := range h {
		out[i] = call.Header{Name: f.Name, Value: r.header(f.Name, f.Value)}
	}
	return out
}

func (r *Redactor) header(name, value string) string {
	name = strings.ToLower(name)
	switch {
	case strings.Contains(name, "set-cookie"):
		return r.cookies(value, cookieAttributes)
	case strings.Contains(name, "cookie"):
		return r.cookies(value, nil)
	case headerName(name), carries(value):
		return r.credentials(value)
	}
	return value
}

// scheme is how a value of the authorization header begins.
var scheme = regexp.MustCompile(`^[\s\x{a0}]*((?i:basic|bearer|digest|dpop|negotiate|ntlm|hawk|token|apikey|aws4-hmac-sha256))[\s\x{a0}]+`)

// credentials hides a value but for the scheme in front of it, so that a token
// can be matched wherever it stood.
func (r *Redactor) credentials(value string) string {
	if m := scheme.FindStringSubmatchIndex(value); m != nil {
		return value[m[2]:m[3]] + " " + r.Secret(strings.TrimSpace(value[m[1]:]))
	}
	return r.Secret(strings.TrimSpace(value))
}

// cookieAttributes may stand behind a cookie (RFC 6265 and what browsers added).
var cookieAttributes = words("path domain expires max-age samesite priority")

// cookies hides the values of cookies. Those of the given attributes stay, but
// for the first pair, which is the cookie itself.
func (r *Redactor) cookies(value string, attributes map[string]bool) string {
	parts := strings.Split(value, ";")
	for i, p := range parts {
		name, v, has := strings.Cut(p, "=")
		word := strings.ToLower(strings.TrimSpace(name))
		switch {
		case has && i > 0 && attributes[word] && !carries(v):
		case has && !carries(name):
			parts[i] = name + "=" + r.Secret(strings.Trim(v, `" `))
		case i > 0 && (word == "secure" || word == "httponly" || word == "partitioned"):
		default:
			parts[i] = r.Secret(strings.TrimSpace(p))
		}
	}
	return strings.Join(parts, ";")
}
