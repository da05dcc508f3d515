package approvals

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
)

// View is a hold as an approver looks at it: what was asked for, byte for
// byte but for values that look like credentials, and with every character
// that a screen would not show, or show misleadingly, spelt out.
type View struct {
	ID         string        `json:"id"`
	CallID     string        `json:"call_id"`
	State      State         `json:"state"`
	Rule       string        `json:"rule"`
	Message    string        `json:"message,omitempty"`
	Policy     string        `json:"policy_version"`
	Identity   call.Identity `json:"identity"`
	Connection string        `json:"connection"`
	Protocol   call.Protocol `json:"protocol"`
	Function   string        `json:"function"`
	Arguments  string        `json:"arguments,omitempty"` // JSON, indented
	Method     string        `json:"method"`
	Authority  string        `json:"authority"`
	Path       string        `json:"path"`
	Type       string        `json:"content_type,omitempty"`
	Encoding   string        `json:"content_encoding,omitempty"`
	Body       string        `json:"body,omitempty"`
	BodyForm   string        `json:"body_form"` // json, form, text, base64, hidden or none
	BodyLength int           `json:"body_length"`
	// BodySHA256 is of the bytes as they came, hex. It is left out where values of
	// the body are hidden: short ones could be guessed by it.
	BodySHA256 string    `json:"body_sha256,omitempty"`
	Hidden     int       `json:"hidden"` // values that were masked
	AskedAt    time.Time `json:"asked_at"`
	Expires    time.Time `json:"expires"`
	Attempts   int       `json:"attempts"`

	// Approvers are those who are asked now; Terms, all that are asked at all.
	Approvers  call.Approvers `json:"approvers"`
	Terms      call.Hold      `json:"terms"`
	Stage      int            `json:"stage"`   // that is asked now, from 0
	Missing    int            `json:"missing"` // how many of it must still say yes
	By         []string       `json:"by,omitempty"`
	Comment    string         `json:"comment,omitempty"` // of who decided last
	DecidedAt  time.Time      `json:"decided_at,omitzero"`
	Verdicts   []Verdict      `json:"verdicts,omitempty"`
	UseBy      time.Time      `json:"use_by,omitzero"`
	UsedAt     time.Time      `json:"used_at,omitzero"`
	BreakGlass string         `json:"break_glass,omitempty"`
	Review     Review         `json:"review,omitzero"`
	History    []Step         `json:"history,omitempty"`
	// Last is how the call differs from the caller's last approved one of the
	// function; nil where there is none.
	Last *Difference `json:"last,omitempty"`
}

// Show returns a hold as people look at it.
func (s *Service) Show(ctx context.Context, id string) (View, error) {
	h, err := s.Get(ctx, id)
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, &h)
}

// Look returns a hold to somebody whom it concerns: who asked for it, those who
// are asked, and their delegates; others get ErrNotFound. That an approver has
// seen it is noted.
func (s *Service) Look(ctx context.Context, id string, by call.Identity) (View, error) {
	h, err := s.Get(ctx, id)
	if err != nil {
		return View{}, err
	}
	delegations, err := s.inForce(ctx, time.Now())
	if err != nil {
		s.cfg.Metrics.storeErr.Inc()
		return View{}, fmt.Errorf("approval %q: the approval store is away, try again: %w", id, err)
	}
	if !concerns(&h, by, delegations) {
		return View{}, fmt.Errorf("approval %q: %w; 'callgate approvals list' shows those that are open", id, ErrNotFound)
	}
	who := PersonOf(by).String()
	if decides(&h, by) == nil && !h.Marked(StepSeen, who) {
		c, err := s.cfg.Store.Mark(ctx, h.ID, Mark{Name: StepSeen, By: who, At: time.Now()})
		if err == nil {
			h.Status = c.Hold.Status
			err = s.took(ctx, c)
		}
		if err != nil { // looking goes on
			s.cfg.Log.WarnContext(ctx, "that somebody has seen an approval could not be noted", "approval", h.ID, "by", who, "error", err)
		}
	}
	return s.view(ctx, &h)
}

// concerns reports whether somebody may see a hold.
func concerns(h *Hold, by call.Identity, delegations []Delegation) bool {
	all := h.Terms.Approvers()
	if PersonOf(by) == PersonOf(h.Identity) || all.Include(by) {
		return true
	}
	return slices.ContainsFunc(delegations, func(d Delegation) bool { return d.to(by) && all.Include(d.From) })
}

func (s *Service) view(ctx context.Context, h *Hold) (View, error) {
	v := show(h)
	away := func(err error) (View, error) {
		s.cfg.Metrics.storeErr.Inc()
		return View{}, fmt.Errorf("approval %q: the approval store is away, try again: %w", h.ID, err)
	}
	var err error
	if v.History, err = s.cfg.Store.History(ctx, h.ID); err != nil {
		return away(err)
	}
	for i := range v.History {
		v.History[i].By, v.History[i].For, v.History[i].Comment = visible(v.History[i].By), visible(v.History[i].For), visible(v.History[i].Comment)
	}
	switch last, err := s.cfg.Store.LastApproved(ctx, *h); {
	case err == nil:
		v.Last = differ(&last, h)
	case !errors.Is(err, ErrNotFound):
		return away(err)
	}
	return v, nil
}

func show(h *Hold) View {
	v := new(viewer)
	last, _ := h.Last()
	out := View{
		ID: h.ID, CallID: h.CallID.String(), State: h.State, Rule: visible(h.Rule), Message: visible(h.Message), Policy: visible(h.PolicyVersion),
		Identity:   visibleIdentity(h.Identity),
		Connection: visible(h.Connection), Protocol: h.Protocol, Function: visible(h.Function),
		Method: visible(h.Request.Method), Authority: visible(reworded(h.Request.Authority)), Path: visible(h.Request.ShownPath()),
		Type: visible(h.Request.ContentType), Encoding: visible(h.Request.ContentEncoding),
		BodyLength: len(h.Request.Body),
		AskedAt:    h.AskedAt, Expires: h.Expires, Attempts: h.Attempts,
		Approvers: h.Asked(), Terms: h.Terms, Stage: h.Stage, Missing: h.Missing(),
		Comment: visible(last.Comment), DecidedAt: last.At, UseBy: h.UseBy, UsedAt: h.UsedAt, BreakGlass: visible(h.BreakGlass), Review: h.Review,
	}
	out.Review.Comment = visible(h.Review.Comment)
	for _, one := range h.Verdicts {
		one.By, one.For, one.Comment = visiblePerson(one.By), visiblePerson(one.For), visible(one.Comment)
		out.By, out.Verdicts = append(out.By, one.By.String()), append(out.Verdicts, one)
	}
	out.BodyForm, out.Body = v.body(h.Request)
	inBody := *v
	v.marks = h.Protocol == call.HTTP
	if args, ok := v.json(h.ArgsJSON); ok {
		var b bytes.Buffer
		if json.Indent(&b, args, "", "  ") == nil {
			args = b.Bytes()
		}
		out.Arguments = visibleJSON(string(args))
	}
	out.Hidden = max(inBody.hidden, v.hidden-inBody.hidden)
	_, inPath := redact.Reword(h.Request.Path, "")
	switch {
	case out.BodyForm == "base64" && v.hidden-inBody.hidden > inPath, out.BodyForm == "text" && v.named-inBody.named > inPath:
		// What is hidden among the arguments stands in the body, where it can't be told.
		out.BodyForm, out.Body = "hidden", ""
	case inBody.hidden == 0:
		sum := sha256.Sum256(h.Request.Body)
		out.BodySHA256 = hex.EncodeToString(sum[:])
	}
	return out
}

// redactor hides credentials in what is stored of a call. Who knows the key can
// tell equal ones; without a key only this process can.
func redactor(key []byte) *redact.Redactor {
	r, err := redact.New(key)
	if err != nil {
		random := make([]byte, redact.MinKey)
		rand.Read(random) // never fails; see crypto/rand
		r, _ = redact.New(random)
	}
	return r
}

// hidden are a call's path and arguments without the credentials in them, as the
// audit trail has them.
func (s *Service) hidden(c *call.Call) (path string, args json.RawMessage) {
	path, hid := s.hide.Target(c.Request.Path)
	args = c.ArgsJSON
	if c.Protocol == call.HTTP { // whose arguments are those of path, query and form, too
		if formEncoded(c.Request.Headers.Get("content-type")) {
			_, inForm := s.hide.Form(string(c.Request.Body))
			hid = hid.And(inForm)
		}
		args = s.hide.Arguments(args, hid)
	}
	return path, args
}

func formEncoded(contentType string) bool {
	mime, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	return strings.TrimSpace(mime) == "application/x-www-form-urlencoded"
}

// ShownPath is the path without what stands for credentials in it.
func (r Request) ShownPath() string { return reworded(r.Path) }

// reworded is a text without what stands for credentials in it.
func reworded(s string) string {
	s, _ = redact.Reword(s, hidden)
	return s
}

func visiblePerson(p Person) Person { return Person{visible(p.Issuer), visible(p.Subject)} }

// viewer masks what an approver need not know.
type viewer struct {
	hidden int
	named  int // of those, what no look at the value alone would hide
	// marks tells that texts can hold what stands for a credential.
	marks bool
}

// hidden stands for a value that is not shown.
const hidden = "[hidden]"

func (v *viewer) body(r Request) (form, text string) {
	switch {
	case len(r.Body) == 0:
		return "none", ""
	case r.ContentEncoding != "" || !utf8.Valid(r.Body) || bytes.IndexByte(r.Body, 0) >= 0:
		return "base64", base64.StdEncoding.EncodeToString(r.Body)
	}
	if masked, ok := v.json(r.Body); ok {
		return "json", visible(string(masked))
	}
	if formEncoded(r.ContentType) {
		form, hid := inForms.Form(string(r.Body))
		v.hidden += hid.Len()
		return "form", visible(form)
	}
	return "text", visible(v.text(string(r.Body)))
}

var inForms = redact.Words(hidden)

// text hides credentials in a text, by their looks, and what stands for one.
func (v *viewer) text(s string) string {
	masked, n := redact.Hide(s, hidden)
	v.hidden += n
	if v.marks {
		masked, n = redact.Reword(masked, hidden)
		v.hidden += n
		if n > 0 && masked == hidden {
			v.named++
		}
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
				hide := top != nil && (top.hide || top.object && redact.Names(top.key))
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
		if top != nil && (top.hide || top.object && redact.Names(top.key)) {
			if tok != nil { // null tells nothing
				replacement = hidden
				v.hidden++
				v.named++
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

// visibleJSON is visible for a JSON document, which stays one: what misleads can
// stand in its strings alone, and is escaped as JSON has it.
func visibleJSON(doc string) string {
	var b strings.Builder
	for i, r := range doc {
		switch {
		case r == '\r' || r == '\n' || r == '\t':
			b.WriteRune(r) // between values; in a string they are escaped already
		case r == utf8.RuneError && !strings.HasPrefix(doc[i:], "\uFFFD"), misleading(r):
			for _, u := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&b, `\u%04x`, u)
			}
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
