package mask

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// HTML masks a page: its text, also where inline elements part a value, the
// values of attributes, comments, and scripts, of which those that are JSON are
// masked as JSON. Names of fields and attributes that a key rule has hide the
// value beside them. Field paths apply to JSON in scripts; elsewhere their last names
// count as keys. On an error withhold the response.
func (m *Masker) HTML(body []byte) (out []byte, found []Finding, err error) {
	return m.document("html", len(body)+1, newPage).everything(body)
}

type page struct {
	*Document
	at     int      // what is before was read
	text   gathered // what is read as one text
	fields *walker  // of JSON in scripts
}

func newPage(d *Document) markup {
	h := &page{Document: d, fields: d.w}
	d.w = d.w.fieldless()
	return h
}

func (h *page) settled() int {
	if len(h.text.parts) > 0 {
		return h.text.parts[0].start
	}
	return h.at
}

func (h *page) left(n int) {
	h.at -= n
	h.text.cut(n)
}

// inline are elements that don't end a text: a reader sees none of them between
// two words.
var inline = map[atom.Atom]bool{
	atom.A: true, atom.Abbr: true, atom.Acronym: true, atom.B: true, atom.Bdi: true, atom.Bdo: true, atom.Big: true, atom.Cite: true, atom.Code: true,
	atom.Data: true, atom.Del: true, atom.Dfn: true, atom.Em: true, atom.Font: true, atom.I: true, atom.Ins: true, atom.Kbd: true, atom.Label: true,
	atom.Mark: true, atom.Nobr: true, atom.Q: true, atom.S: true, atom.Samp: true, atom.Small: true, atom.Span: true, atom.Strike: true, atom.Strong: true,
	atom.Sub: true, atom.Sup: true, atom.Time: true, atom.Tt: true, atom.U: true, atom.Var: true, atom.Wbr: true,
}

func (h *page) parse(in *feed) error {
	z := html.NewTokenizer(in)
	for script := ""; ; {
		kind := z.Next()
		if in.shut {
			return io.ErrClosedPipe
		}
		start, end := h.at, h.at+len(z.Raw())
		if kind == html.ErrorToken {
			if !errors.Is(z.Err(), io.EOF) {
				return fmt.Errorf("html: not readable: %w", ErrInvalid)
			}
			end = len(h.src) // a tag that does not end
		}
		switch {
		case end-start > h.limit:
			return h.tooLarge()
		case !utf8.Valid(h.src[start:end]):
			return fmt.Errorf("the page is not UTF-8: %w", ErrInvalid)
		}
		err := h.token(z, kind, start, end, &script)
		if h.at = end; err != nil || kind == html.ErrorToken {
			return err
		}
	}
}

// token masks the next part. script says what kind of text stands here.
func (h *page) token(z *html.Tokenizer, kind html.TokenType, start, end int, script *string) error {
	switch kind {
	case html.ErrorToken:
		if err := h.flush(); err != nil {
			return err
		}
		h.raw(start, end)
	case html.TextToken:
		switch *script {
		case "":
			h.text.add(h.src, start, end, "&", characterHTML)
		case "json":
			return h.data(start, end)
		default:
			h.raw(start, end)
		}
	case html.StartTagToken, html.SelfClosingTagToken:
		name, _ := z.TagName()
		a := atom.Lookup(name)
		if !inline[a] {
			if err := h.flush(); err != nil {
				return err
			}
		}
		if err := h.attributes(start, end); err != nil {
			return err
		}
		if *script = ""; a == atom.Script || a == atom.Style {
			*script = "code"
			if kind, ok := attributeOf(h.src[start:end], "type"); ok && isJSON(kind) {
				*script = "json"
			}
		}
	case html.EndTagToken:
		name, _ := z.TagName()
		if *script = ""; !inline[atom.Lookup(name)] {
			if err := h.flush(); err != nil {
				return err
			}
		}
		h.raw(start, end) // end tags may have attributes, which nobody reads
	default: // comments, document types
		h.raw(start, end)
	}
	return nil
}

// data masks JSON in a script.
func (h *page) data(start, end int) error {
	w := h.fields
	if err := w.value(h.src, start, end, verdict{}, "", nil, inScript); err != nil || w == h.w {
		return err
	}
	h.w.edits = append(h.w.edits, w.edits...)
	h.w.adoptFindings(w.findings)
	w.edits, w.findings, w.last = w.edits[:0], w.findings[:0], 0
	return w.fault
}

// flush searches the text gathered so far.
func (h *page) flush() error {
	defer h.text.clear()
	if len(h.text.parts) == 0 {
		return nil
	}
	n := len(h.w.edits)
	if err := h.w.content(h.text.b, h.text.at, 0); err != nil {
		return err
	}
	h.w.split(n, h.text.parts, escapeMarkup)
	return nil
}

// raw searches what is not read as text: code, comments.
func (h *page) raw(start, end int) {
	if start >= end {
		return
	}
	n := len(h.w.edits)
	h.w.text(h.src[start:end], nil, start, false, true)
	h.w.split(n, []part{{start, end}}, safe)
}

// safe lets nothing stand that could end a string, a comment or a script.
func safe(repl []byte) []byte {
	if bytes.ContainsAny(repl, "'\"`\\<>&\r\n-=/ ") {
		return []byte(hidden)
	}
	return repl
}

// inScript keeps JSON from ending the script that it stands in.
func inScript(repl []byte) []byte { return bytes.ReplaceAll(repl, []byte("<"), []byte(`\u003c`)) }

// attribute is one of a tag: where its name and value stand.
type attribute struct {
	name       string
	at         int // where the name begins
	start, end int // of the value
	quoted     bool
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r' }

// tagName returns where a tag's name ends.
func tagName(tag []byte) int {
	i := 1
	for i < len(tag) && !space(tag[i]) && tag[i] != '/' && tag[i] != '>' {
		i++
	}
	return i
}

// scan reads the attributes of a tag (WHATWG HTML §13.2.5.32 on).
func scan(tag []byte) []attribute {
	var out []attribute
	i := tagName(tag)
	for i < len(tag) {
		if space(tag[i]) || tag[i] == '/' {
			i++
			continue
		}
		if tag[i] == '>' {
			break
		}
		from := i
		i++ // a = here is a part of the name
		for i < len(tag) && !space(tag[i]) && tag[i] != '/' && tag[i] != '>' && tag[i] != '=' {
			i++
		}
		a := attribute{name: strings.ToLower(string(tag[from:i])), at: from}
		for i < len(tag) && space(tag[i]) {
			i++
		}
		if i < len(tag) && tag[i] == '=' {
			for i++; i < len(tag) && space(tag[i]); i++ {
			}
			if i < len(tag) && (tag[i] == '"' || tag[i] == '\'') {
				a.quoted, a.start = true, i+1
				n := bytes.IndexByte(tag[i+1:], tag[i])
				if n < 0 {
					n = len(tag) - i - 1
				}
				a.end = a.start + n
				i = a.end + 1
			} else {
				for a.start = i; i < len(tag) && !space(tag[i]) && tag[i] != '>'; i++ {
				}
				a.end = i
			}
		}
		out = append(out, a)
	}
	return out
}

func attributeOf(tag []byte, name string) (string, bool) {
	for _, a := range scan(tag) {
		if a.name == name {
			return html.UnescapeString(string(tag[a.start:a.end])), true
		}
	}
	return "", false
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json") || media == "importmap" || media == "speculationrules")
}

func (h *page) attributes(start, end int) error {
	w := h.w
	tag := h.src[start:end]
	list := scan(tag)
	// A field tells by its name what its value is.
	named := verdict{}
	for _, a := range list {
		if a.name == "name" || a.name == "id" || a.name == "property" {
			if r := w.name([]byte(html.UnescapeString(string(tag[a.start:a.end])))).rule; r >= 0 {
				named = w.m.stricterVerdict(named, w.m.by(r, detKeyword))
			}
		}
	}
	h.raw(start+1, start+tagName(tag))
	w.push()
	defer w.pop()
	for _, a := range list {
		h.raw(start+a.at, start+a.at+len(a.name))
		name := strings.TrimPrefix(a.name, "data-")
		w.stack[len(w.stack)-1] = frame{info: w.name([]byte(name)), kind: frameKey}
		v := verdict{}
		if a.name == "value" || a.name == "content" {
			v = named
		}
		r := w.stack[len(w.stack)-1].info.rule
		if name == a.name {
			r = h.fields.name([]byte(name)).rule // what HTML calls value or id is not the path's
		}
		if r >= 0 {
			v = w.m.stricterVerdict(v, w.m.by(r, detKeyword))
		}
		form := escapeMarkup
		if !a.quoted {
			form = safe
		}
		if err := w.value(h.src, start+a.start, start+a.end, v, "&%", characterOrPercent, form); err != nil {
			return err
		}
	}
	return nil
}

// characterOrPercent reads what an attribute may have for a character: many hold
// URLs.
func characterOrPercent(text []byte) (rune, int) {
	if text[0] == '%' {
		return percent(text)
	}
	return characterHTML(text)
}
