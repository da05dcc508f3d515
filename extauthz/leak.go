package extauthz

import (
	"bytes"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// shortestCredential is the length in bytes from which a value is looked for in
// the rest of a request. A shorter one is no secret, and would be found by
// chance.
const shortestCredential = 12

// shown lists the credentials that the caller sent where they belong.
func (d *decision) shown() []string {
	var out []string
	for _, name := range d.server.cfg.Identifier.CredentialHeaders() {
		for _, value := range d.call.Request.Headers.Values(name) {
			// What follows the scheme, if there is one.
			value = strings.TrimSpace(value)
			if value = value[strings.LastIndexByte(value, ' ')+1:]; len(value) >= shortestCredential {
				out = append(out, value)
			}
		}
	}
	return out
}

// discreet refuses a call that has its caller's credential in the path or the
// query. The function would get it, and could call in the caller's name. It
// does not stand in what is recorded either.
func (d *decision) discreet() *denied {
	target := d.call.Request.Path
	plain := target
	if decoded, err := url.QueryUnescape(target); err == nil {
		plain = decoded
	}
	found := false
	for _, secret := range d.shown() {
		if strings.Contains(plain, secret) {
			target = plain
		}
		if strings.Contains(target, secret) {
			found = true
			target = strings.ReplaceAll(target, secret, d.server.cfg.Redact.Secret(secret))
			plain = target
		}
	}
	if found {
		d.call.Request.Path = target
		return deny(call.ReasonMalformedRequest, "the path or query has the caller's own credential in it, which the function must not get; send it in its header alone")
	}
	return nil
}

// discreetBody refuses a call that has its caller's credential in the body, as it
// came or in what was read of it (an escaped text, a packed body, a form). Of what
// is recorded the credential is taken out, or else all of the body.
func (d *decision) discreetBody() *denied {
	secrets := d.shown()
	if len(secrets) == 0 {
		return nil
	}
	body, c := d.call.Request.Body, &d.call
	loose := unescaped(body)
	packed := c.Request.Headers.Get("content-encoding") != ""
	found, plain := false, loose == nil && !packed // else it may stand there in another form as well
	for _, secret := range secrets {
		if strings.Contains(c.Session, secret) {
			c.Session, c.SessionName = "", "" // from a header that the function does not get
		}
		in := bytes.Contains(body, []byte(secret))
		name, id := strings.Contains(c.Function, secret), bytes.Contains(c.RPCID, []byte(secret)) || bytes.Contains(unescaped(c.RPCID), []byte(secret))
		if !in && !name && !id && !bytes.Contains(loose, []byte(secret)) && !mentions(c.Args, secret) {
			continue
		}
		if name {
			c.Function = ""
		}
		if id {
			c.RPCID = nil
		}
		found, plain = true, plain && in
		body = bytes.ReplaceAll(body, []byte(secret), []byte(d.server.cfg.Redact.Secret(secret)))
	}
	if !found {
		return nil
	}
	c.Args, c.ArgsJSON, c.Request.Body = nil, nil, nil
	if plain {
		c.Request.Body = body
	}
	return deny(call.ReasonMalformedRequest, "the body has the caller's own credential in it, which the function must not get; send it in its header alone")
}

// unescaped is a text with what JSON and forms escape put back (\u0041, %41),
// whether or not it can be parsed; nil where nothing in it is escaped.
func unescaped(text []byte) []byte {
	if !bytes.ContainsAny(text, `\%`) {
		return nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		digits := 0
		switch {
		case text[i] == '%':
			digits = 2
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == 'u':
			digits = 4
			i++
		case text[i] == '\\' && i+1 < len(text):
			i++ // such as \/, which is a plain one
		}
		if n, err := strconv.ParseUint(string(text[min(i+1, len(text)):min(i+1+digits, len(text))]), 16, 32); digits > 0 && err == nil && n < utf8.RuneSelf && i+digits < len(text) {
			out = append(out, byte(n))
			i += 1 + digits
			continue
		}
		out = append(out, text[i])
		i++
	}
	return out
}

// mentions reports whether some text in a value holds a secret.
func mentions(v any, secret string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, secret)
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return mentions(x, secret) })
	case map[string]any:
		for k, x := range v {
			if strings.Contains(k, secret) || mentions(x, secret) {
				return true
			}
		}
	}
	return false
}

// copies lists headers that repeat the caller's credential, such as those that
// a proxy before Envoy made of it.
func (d *decision) copies() []string {
	secrets := d.shown()
	var out []string
	for _, h := range d.call.Request.Headers {
		if slices.Contains(out, h.Name) {
			continue
		}
		for _, secret := range secrets {
			if strings.Contains(h.Value, secret) {
				out = append(out, h.Name)
				break
			}
		}
	}
	return out
}
