package redact

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// strong are names, in one word, of what is a credential wherever it stands.
var strong = words(`accesskey accesstoken apikey appkey appsecret assertion authkey authorization authtoken awsaccesskeyid bearer bearertoken
	clientassertion clientsecret credential credentials csrftoken cvc cvv cvv2 idtoken jsessionid jwt masterkey oauthtoken otp passcode passphrase passwd
	password phpsessid pin privatekey pwd refreshtoken secret secretaccesskey secretkey secrets securitytoken sessionkey sessiontoken sharedkey
	signingkey subscriptionkey totp xamzcredential xamzsecuritytoken xamzsignature xgoogcredential xgoogsignature xsrftoken`)

// weak are names of what is one in a query, where a service that takes
// credentials so finds them, and may be anything in a document.
var weak = words(`actortoken auth code codeverifier devicecode key pass samlart samlrequest samlresponse session sessionid sid sig signature
	state subjecttoken ticket token usertoken`)

// inHeaders are words of header names that tell of a credential.
var inHeaders = words(`auth authorization bearer cookie cookie2 cookies credential credentials csrf jwt otp passcode passphrase passwd password
	pin pwd secret secrets session sessionid sid sig signature token totp xsrf assertion apikey`)

// plain are header names that the rules would take for credentials, and are not.
// A session id of MCP says which calls belong together.
var plain = words("idempotency-key x-idempotency-key mcp-session-id surrogate-key sec-websocket-key cache-key x-cache-key")

func words(list string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(list) {
		m[w] = true
	}
	return m
}

// fold makes names that differ in case or in separators equal.
func fold(name string) string {
	if oneWord(name) {
		return name
	}
	var short [64]byte
	out := short[:0]
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			out = append(out, c)
		case c >= 'A' && c <= 'Z':
			out = append(out, c|0x20)
		case c >= 0x80:
			return foldUnicode(name)
		}
	}
	return string(out)
}

// oneWord reports whether a name is one word in lower case, as most are: it is
// folded as it stands, and there is nothing to split.
func oneWord(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func foldUnicode(name string) string {
	// Upper first: some letters have no lower-case form of their own.
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, strings.ToLower(strings.ToUpper(name)))
}

// pages are words that make of a token a place in a listing.
var pages = []string{"page", "next", "continuation", "cursor", "sync", "skip", "previous", "prev"}

// strongName reports whether a field of that name is a credential in any
// document.
func strongName(name string) bool {
	f := fold(name)
	if strong[f] {
		return true
	}
	var parts []string
	if !oneWord(name) {
		parts = split(name)
	}
	if len(parts) < 2 {
		return strings.HasSuffix(f, "password") || strings.HasSuffix(f, "secret") || strings.HasSuffix(f, "apikey")
	}
	last, before := parts[len(parts)-1], parts[len(parts)-2]
	switch last {
	case "token", "jwt":
		return !slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(pages, p) })
	case "password", "passwd", "secret", "credential", "credentials", "passphrase", "cookie", "apikey":
		return true
	case "key":
		return slices.Contains([]string{"api", "access", "private", "secret", "signing", "encryption", "shared", "account", "auth"}, before)
	}
	return false
}

// queryName reports whether a parameter of that name is a credential.
func queryName(name string) bool { return weak[fold(name)] || strongName(name) }

// headerName reports whether a header of that name, lower case, carries a
// credential.
func headerName(name string) bool {
	if plain[name] {
		return false
	}
	parts := split(name)
	for _, p := range parts {
		if inHeaders[p] {
			return true
		}
	}
	if len(parts) > 0 && strings.HasSuffix(parts[len(parts)-1], "key") {
		return true
	}
	f := fold(name)
	for _, w := range []string{"token", "secret", "password", "authorization", "credential", "apikey", "sessionid", "cookie"} {
		// "tokens" are counted, in headers on limits.
		if i := strings.Index(f, w); i >= 0 && !strings.HasPrefix(f[i:], "tokens") {
			return true
		}
	}
	return false
}

// split takes apiKey, api_key, API-Key and api.key apart into api and key.
func split(name string) []string {
	if !strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf || r >= 'A' && r <= 'Z' }) {
		return strings.FieldsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	}
	return splitAny(name)
}

// splitAny splits names with letters of any kind.
func splitAny(name string) []string {
	var parts []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			parts = append(parts, strings.ToLower(strings.ToUpper(b.String())))
			b.Reset()
		}
	}
	lower := false
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			flush()
			lower = false
			continue
		}
		if unicode.IsUpper(r) && lower {
			flush()
		}
		lower = unicode.IsLower(r)
		b.WriteRune(r)
	}
	flush()
	return parts
}

// NamesParameter reports whether a parameter of that name, in a query or a form,
// holds a credential.
func NamesParameter(name string) bool { return queryName(name) }

// Names reports whether a field of that name holds a credential.
func Names(name string) bool { return strongOrToken(name) }

// Looks reports whether a text looks like a credential, or has one in it.
func Looks(text string) bool { return carries(text) || Stands(text) }
