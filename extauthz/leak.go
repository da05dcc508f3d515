package extauthz

import (
	"net/url"
	"slices"
	"strings"

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

// copies lists headers that repeat the caller's credential, such as those that
// a proxy before Envoy made of it.
func (d *decision) copies() []string {
	secrets := d.shown()
	var out []string
	for _, h := range d.call.Request.Headers {
		if h.Name == d.header || slices.Contains(out, h.Name) {
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
