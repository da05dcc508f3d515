package approvals

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// View is a hold as an approver looks at it: what was asked for, byte for
// byte but for values that look like credentials, and with every character
// that a screen would not show, or show misleadingly, spelt out.
type View struct {
	ID         string         `json:"id"`
	CallID     string         `json:"call_id"`
	State      State          `json:"state"`
	Rule       string         `json:"rule"`
	Message    string         `json:"message,omitempty"`
	Policy     string         `json:"policy_version"`
	Identity   call.Identity  `json:"identity"`
	Approvers  call.Approvers `json:"approvers"`
	Connection string         `json:"connection"`
	Protocol   call.Protocol  `json:"protocol"`
	Function   string         `json:"function"`
	Arguments  string         `json:"arguments,omitempty"` // JSON, indented
	Method     string         `json:"method"`
	Authority  string         `json:"authority"`
	Path       string         `json:"path"`
	Type       string         `json:"content_type,omitempty"`
	Encoding   string         `json:"content_encoding,omitempty"`
	Body       string         `json:"body,omitempty"`
	BodyForm   string         `json:"body_form"` // json, form, text, base64 or none
	BodyLength int            `json:"body_length"`
	BodySHA256 string         `json:"body_sha256"` // of the bytes as they came, hex
	Hidden     int            `json:"hidden"`      // values that were masked
	AskedAt    time.Time      `json:"asked_at"`
	Expires    time.Time      `json:"expires"`
	By         []string       `json:"by,omitempty"`
	Comment    string         `json:"comment,omitempty"`
	DecidedAt  time.Time      `json:"decided_at,omitzero"`
	UsedAt     time.Time      `json:"used_at,omitzero"`
}

// Show returns a hold for an approver to look at.
func (s *Service) Show(ctx context.Context, id string) (View, error) {
	h, err := s.Get(ctx, id)
	if err != nil {
		return View{}, err
	}
	return show(&h, s.cfg.Redact), nil
}

func show(h *Hold, redact func(string) string) View {
	v := viewer{redact: redact}
	sum := sha256.Sum256(h.Request.Body)
	last, _ := h.Last()
	out := View{
		ID: h.ID, CallID: h.CallID.String(), State: h.State, Rule: visible(h.Rule), Message: visible(h.Message), Policy: visible(h.PolicyVersion),
		Identity: visibleIdentity(h.Identity), Approvers: h.asked(),
		Connection: visible(h.Connection), Protocol: h.Protocol, Function: visible(h.Function),
		Method: visible(h.Request.Method), Authority: visible(h.Request.Authority), Path: visible(h.Request.Path),
		Type: visible(h.Request.ContentType), Encoding: visible(h.Request.ContentEncoding),
		BodyLength: len(h.Request.Body), BodySHA256: hex.EncodeToString(sum[:]),
		AskedAt: h.AskedAt, Expires: h.Expires, By: h.Deciders(), Comment: visible(last.Comment), DecidedAt: last.At, UsedAt: h.UsedAt,
	}
	out.BodyForm, out.Body = v.body(h.Request)
	hiddenInBody := v.hidden
	if args, ok := v.json(h.ArgsJSON); ok {
		var b bytes.Buffer
		if json.Indent(&b, args, "", "  ") == nil {
			args = b.Bytes()
		}
		out.Arguments = visible(string(args))
	}
	out.Hidden = max(hiddenInBody, v.hidden-hiddenInBody)
	return out
}

// viewer masks what an approver need not know.
type viewer struct {
	redact func(string) string
	hidden int
}

// hidden stands for a value that is not shown.
const hidden = "[hidden]"

func (v *viewer) body(r Request) (form, text string) {
	mime, _, _ := strings.Cut(strings.ToLower(r.ContentType), ";")
	switch {
	case len(r.Body) == 0:
		return "none", ""
	case r.ContentEncoding != "" || !utf8.Valid(r.Body) || bytes.IndexByte(r.Body, 0) >= 0:
		return "base64", base64.StdEncoding.EncodeToString(r.Body)
	}
	if masked, ok := v.json(r.Body); ok {
		return "json", visible(string(masked))
	}
	if strings.TrimSpace(mime) == "application/x-www-form-urlencoded" {
		before := string(r.Body)
		after := strings.TrimPrefix(hideQuery("?"+before), "?")
		v.hidden += strings.Count(after, hidden) - strings.Count(before, hidden)
		return "form", visible(after)
	}
	return "text", visible(v.text(string(r.Body)))
}

func (v *viewer) text(s string) string {
	if v.redact == nil {
		return s
	}
	masked := v.redact(s)
	if masked != s {
		v.hidden++
	}
	return masked
}

// json returns a JSON document with credential-like values replaced and every
// other byte as it was, or false where it is not one JSON document.
func (v *viewer) json(doc []byte) ([]byte, bool) {
	if !json.Valid(doc) {
		return nil, false
	}
	type level struct {
		object, wantKey, hide bool
		key                   string
	}
	var (
		out   bytes.Buffer
		kept  int // doc up to here is in out
		stack []level
		dec   = json.NewDecoder(bytes.NewReader(doc))
	)
	dec.UseNumber()
	for {
		start := int(dec.InputOffset())
		tok, err := dec.Token()
		if err != nil {
			break // the end; validity was checked above
		}
		end := int(dec.InputOffset())
		for start < end && strings.IndexByte(" \t\r\n,:", doc[start]) >= 0 {
			start++
		}
		var top *level
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		if delim, ok := tok.(json.Delim); ok {
			switch delim {
			case '{', '[':
				hide := top != nil && (top.hide || top.object && credentialName(top.key))
				if top != nil {
					top.wantKey = top.object
				}
				stack = append(stack, level{object: delim == '{', wantKey: delim == '{', hide: hide})
			default:
				stack = stack[:len(stack)-1]
			}
			continue
		}
		if top != nil && top.wantKey {
			top.key, top.wantKey = tok.(string), false
			continue
		}
		replacement := ""
		if top != nil && (top.hide || top.object && credentialName(top.key)) {
			if tok != nil { // null tells nothing
				replacement = hidden
				v.hidden++
			}
		} else if s, ok := tok.(string); ok {
			if masked := v.text(s); masked != s {
				replacement = masked
			}
		}
		if replacement != "" {
			quoted, err := json.Marshal(replacement)
			if err != nil {
				return nil, false
			}
			out.Write(doc[kept:start])
			out.Write(quoted)
			kept = end
		}
		if top != nil {
			top.wantKey = top.object
		}
	}
	out.Write(doc[kept:])
	return out.Bytes(), true
}

// credentialName tells whether a field of this name holds a credential. It
// looks at whole words, so that max_tokens and secretary stay readable.
func credentialName(name string) bool {
	words := nameWords(name)
	for i, w := range words {
		last := i == len(words)-1
		next := ""
		if !last {
			next = words[i+1]
		}
		switch w {
		case "password", "passwd", "passphrase", "pwd", "secret", "secrets", "authorization", "credential", "credentials",
			"cookie", "apikey", "accesskey", "privatekey", "secretkey", "accesstoken", "refreshtoken", "idtoken", "authtoken", "cvv", "cvc", "otp":
			return true
		case "token", "jwt", "pin", "sig", "signature":
			if last {
				return true
			}
		case "api", "access", "private", "signing", "encryption":
			if next == "key" {
				return true
			}
		}
	}
	return false
}

// nameWords splits apiKey, api_key, API-Key and api.key into api and key.
func nameWords(name string) []string {
	var words []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			words = append(words, strings.ToLower(b.String()))
			b.Reset()
		}
	}
	lower := false
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
			lower = false
			continue
		case unicode.IsUpper(r) && lower:
			flush()
		}
		lower = unicode.IsLower(r)
		b.WriteRune(r)
	}
	flush()
	return words
}

// hideQuery replaces credential-like values in a path's query. It keeps all
// else byte for byte.
func hideQuery(path string) string {
	base, query, has := strings.Cut(path, "?")
	if !has {
		return path
	}
	parts := strings.Split(query, "&")
	for i, p := range parts {
		key, value, has := strings.Cut(p, "=")
		if !has || value == "" {
			continue
		}
		name, err := url.QueryUnescape(key)
		if err != nil {
			name = key
		}
		if credentialName(name) {
			parts[i] = key + "=" + hidden
		}
	}
	return base + "?" + strings.Join(parts, "&")
}

// visible spells out what a terminal or a page would obey, hide or turn
// round, so that what an approver reads is what is there.
func visible(s string) string {
	clean := true
	for _, r := range s {
		if r == utf8.RuneError || misleading(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case misleading(r):
			fmt.Fprintf(&b, `\u{%04x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// misleading are control and format characters (bidirectional overrides, zero
// widths, tags), other line ends, and blanks that look like nothing.
func misleading(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r == '\u2028' || r == '\u2029' || r == '\u115f' || r == '\u1160' || r == '\u3164' || r == '\uffa0':
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector)
}

func visibleIdentity(i call.Identity) call.Identity {
	i.Issuer, i.Subject, i.Kind = visible(i.Issuer), visible(i.Subject), call.Kind(visible(string(i.Kind)))
	groups := make([]string, len(i.Groups))
	for n, g := range i.Groups {
		groups[n] = visible(g)
	}
	actors := make([]call.Actor, len(i.Actors))
	for n, a := range i.Actors {
		actors[n] = call.Actor{Issuer: visible(a.Issuer), Subject: visible(a.Subject)}
	}
	i.Groups, i.Actors, i.TokenID = groups, actors, visible(i.TokenID)
	return i
}
