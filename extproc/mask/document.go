package mask

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/textproto"
	"strings"
	"unicode/utf8"
)

// ErrBinary is a body of a type that can't be read to be masked.
var ErrBinary = errors.New("body is of no type that can be masked")

// Kind is how a type of body is masked.
type Kind uint8

// The kinds. All flow while they are masked, multipart and folded bodies apart.
const (
	Binary Kind = iota // not at all
	JSON               // a JSON document
	Units              // events or lines, each by itself
	Text               // any text
	Table              // CSV
	Markup             // XML, HTML, forms
	Folded             // calendars and address cards, whose lines are folded
)

// KindOf tells how a body of a media type, without its parameters, is masked.
func KindOf(media string) Kind {
	switch {
	case media == "application/json", media == "text/json", strings.HasSuffix(media, "+json"):
		return JSON
	case media == "text/event-stream", ndjson[media]:
		return Units
	case media == "text/csv", media == "application/csv", media == "text/tab-separated-values":
		return Table
	case isXML(media), media == "text/html", media == "application/xhtml+xml", media == "application/x-www-form-urlencoded", media == "multipart/form-data", media == "multipart/mixed", media == "multipart/related", media == "multipart/alternative":
		return Markup
	case folded[media]:
		return Folded
	case media == "", strings.HasPrefix(media, "text/"), textual[media]:
		return Text
	}
	return Binary
}

func isXML(media string) bool {
	return media != "application/xhtml+xml" && (media == "application/xml" || media == "text/xml" || strings.HasSuffix(media, "+xml"))
}

var ndjson = map[string]bool{
	"application/x-ndjson": true, "application/ndjson": true, "application/jsonl": true,
	"application/x-jsonlines": true, "application/jsonlines": true, "application/json-seq": false,
}

// folded are types whose lines go on in the next one (RFC 5545 §3.1, RFC 6350 §3.2).
var folded = map[string]bool{"text/calendar": true, "text/vcard": true, "text/x-vcard": true, "text/x-vcalendar": true, "text/directory": true}

// textual are types of text outside text/.
var textual = map[string]bool{
	"application/javascript": true, "application/x-javascript": true, "application/ecmascript": true, "application/json-seq": true,
	"application/yaml": true, "application/x-yaml": true, "application/toml": true, "application/sql": true, "application/graphql": true,
}

// Whole masks a body of any type that is at hand whole. contentType is the value
// of its header. What is JSON, whatever it was declared as, is masked as JSON.
func (m *Masker) Whole(contentType string, body []byte) (out []byte, found []Finding, err error) {
	return m.whole(contentType, body, 0)
}

// maxParts bounds the parts of a multipart body, and maxMultipart such bodies in
// each other.
const (
	maxParts     = 1000
	maxMultipart = 3
)

func (m *Masker) whole(contentType string, body []byte, depth int) (out []byte, found []Finding, err error) {
	media, params, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil {
		return nil, nil, fmt.Errorf("the type of a body can't be read: %w", ErrBinary)
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" && cs != "utf8" && cs != "us-ascii" {
		return nil, nil, fmt.Errorf("a body in another charset than UTF-8: %w", ErrBinary)
	}
	media = Actual(media, body, true)
	kind := KindOf(media)
	if kind == Markup && !strings.HasPrefix(media, "multipart/") && OpensJSON(body) {
		return m.Text(body) // it is JSON, or is searched as text
	}
	switch kind {
	case JSON:
		return m.JSON(body)
	case Units:
		s := m.NewStream(contentType, len(body)+1)
		return all(s, body)
	case Table:
		if OpensJSON(body) {
			return m.Text(body)
		}
		return all(m.NewCSV(Comma(media), params["header"] == "absent", len(body)+1), body)
	case Text:
		if !utf8.Valid(body) {
			return nil, nil, fmt.Errorf("the text is not UTF-8: %w", ErrInvalid)
		}
		return m.Text(body)
	case Folded:
		if OpensJSON(body) {
			return m.Text(body)
		}
		return m.unfolded(body)
	case Markup:
		switch {
		case strings.HasPrefix(media, "multipart/"):
			return m.multipart(params["boundary"], body, depth)
		case media == "application/x-www-form-urlencoded":
			return m.Form(body)
		case isXML(media):
			return m.XML(body)
		}
		return m.HTML(body)
	}
	return nil, nil, ErrBinary
}

// unfolded masks a text whose lines are folded: a line end with a blank after it
// stands for nothing.
func (m *Masker) unfolded(body []byte) (out []byte, found []Finding, err error) {
	if err := checkSize(body); err != nil {
		return nil, nil, err
	}
	if !utf8.Valid(body) {
		return nil, nil, fmt.Errorf("the text is not UTF-8: %w", ErrInvalid)
	}
	w := m.walker().leaveFields()
	defer w.done()
	var g gathered
	from := 0
	for i := 0; i+1 < len(body); i++ {
		if body[i] != '\n' || body[i+1] != ' ' && body[i+1] != '\t' {
			continue
		}
		end := i
		if end > from && body[end-1] == '\r' {
			end--
		}
		g.add(body, from, end, "", nil)
		i++
		from = i + 1
	}
	g.add(body, from, len(body), "", nil)
	w.text(g.b, g.at, 0, false, true)
	w.split(0, g.parts, func(repl []byte) []byte { return repl })
	out, err = w.finish(body)
	return out, w.findings, err
}

// Comma is what parts the fields of a table of a media type; 0: it shows in the table.
func Comma(media string) byte {
	if media == "text/tab-separated-values" {
		return '\t'
	}
	return 0
}

// OpensJSON tells whether a body that was declared as something else begins like
// an object or array.
func OpensJSON(body []byte) bool {
	text := skipSpace(bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")))
	return len(text) > 0 && text[0] != '"' && opensJSON(text)
}

func all(s interface {
	Write([]byte) ([]byte, error)
	Close() ([]byte, error)
	Findings() []Finding
}, body []byte) ([]byte, []Finding, error) {
	out, err := s.Write(body)
	if err != nil {
		return nil, nil, err
	}
	rest, err := s.Close()
	return append(out, rest...), s.Findings(), err
}

// multipart masks a body of RFC 2046 part by part, each by its own type. A part
// whose name a key rule has is hidden whole.
func (m *Masker) multipart(boundary string, body []byte, depth int) (out []byte, found []Finding, err error) {
	bad := func(what string) error { return fmt.Errorf("multipart body: %s: %w", what, ErrInvalid) }
	switch {
	case boundary == "" || len(boundary) > 70:
		return nil, nil, bad("no boundary")
	case depth >= maxMultipart:
		return nil, nil, fmt.Errorf("multipart body: %w", ErrTooDeep)
	}
	w := m.walker()
	defer w.done()
	mark := []byte("--" + boundary)
	i := bytes.Index(body, mark)
	if i < 0 || i > 0 && body[i-1] != '\n' {
		return nil, nil, bad("it does not begin with its boundary")
	}
	if len(bytes.TrimSpace(body[:i])) > 0 {
		return nil, nil, bad("text before the first part")
	}
	out = append(out, body[:i]...)
	for n := 0; ; n++ {
		// At a boundary: its line, then a part up to the next one.
		line := bytes.IndexByte(body[i:], '\n')
		head := body[i:]
		if line >= 0 {
			head = body[i : i+line+1]
		}
		rest := bytes.TrimRight(head[len(mark):], " \t\r\n")
		if bytes.Equal(rest, []byte("--")) {
			if len(bytes.TrimSpace(body[i+len(head):])) > 0 {
				return nil, nil, bad("text after the last part")
			}
			return append(out, body[i:]...), w.findings, nil
		}
		switch {
		case len(rest) > 0 || line < 0:
			return nil, nil, bad("a boundary with more on its line")
		case n >= maxParts:
			return nil, nil, fmt.Errorf("multipart body: more than %d parts: %w", maxParts, ErrTooLarge)
		}
		out = append(out, head...)
		i += len(head)
		end := bytes.Index(body[i:], append([]byte("\r\n"), mark...))
		if end < 0 {
			return nil, nil, bad("a part does not end")
		}
		part, err := m.part(w, body[i:i+end+2], depth)
		if err != nil {
			return nil, nil, fmt.Errorf("part %d: %w", n+1, err)
		}
		out = append(append(out, part...), '\r', '\n')
		i += end + 2
	}
}

// part masks one, with its headers. b ends with a line end that is not its own.
func (m *Masker) part(w *walker, b []byte, depth int) ([]byte, error) {
	n := 0
	if !bytes.HasPrefix(b, []byte("\r\n")) {
		if n = bytes.Index(b, []byte("\r\n\r\n")); n < 0 {
			return nil, fmt.Errorf("its headers do not end: %w", ErrInvalid)
		}
		n += 2
	}
	head, content := b[:n], b[n+2:]
	content = content[:max(0, len(content)-2)]
	lines := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(bytes.Clone(head), "\r\n"...))))
	h, err := lines.ReadMIMEHeader()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("its headers can't be read: %w", ErrInvalid)
	}
	_, disposition, _ := mime.ParseMediaType(h.Get("content-disposition")) // one that can't be read names nothing
	w.reset()
	w.text(head, nil, 0, false, false)
	if w.fault != nil {
		return nil, w.fault
	}
	out := append(bytes.Clone(apply(head, w.edits)), '\r', '\n')

	w.reset()
	w.push()
	defer w.pop()
	if name := disposition["name"]; name != "" {
		if v := w.enterName(w.cur, w.arrive(verdict{}), -1, name); v.how != howNone {
			w.hide(0, len(content), content, v, func(b []byte) []byte { return b })
			return append(out, w.edits[0].repl...), nil
		}
	}
	encoding := strings.ToLower(h.Get("content-transfer-encoding"))
	plain := content
	switch encoding {
	case "", "7bit", "8bit", "binary":
	case "base64":
		plain, err = base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(string(content)))
		if err != nil {
			return nil, fmt.Errorf("it is not in base64: %w", ErrInvalid)
		}
	default:
		return nil, fmt.Errorf("it is in another transfer encoding: %w", ErrBinary)
	}
	contentType := h.Get("content-type")
	if contentType == "" {
		contentType = "text/plain"
	}
	masked, found, err := m.whole(contentType, plain, depth+1)
	if err != nil {
		return nil, err
	}
	w.findings = append(w.findings, found...)
	switch {
	case len(found) == 0:
		masked = content
	case encoding == "base64":
		masked = []byte(base64.StdEncoding.EncodeToString(masked))
	}
	return append(out, masked...), nil
}
