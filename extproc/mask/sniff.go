package mask

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"golang.org/x/net/html/atom"
)

// Actual is the media type by which a body is masked that is said to be text, a table
// or HTML: a page or an XML document writes values in ways of its own. head is what
// the body begins with, or all of it.
func Actual(media string, head []byte, all bool) string {
	page := media == "text/html" || media == "application/xhtml+xml"
	if kind := KindOf(media); !page && kind != Text && kind != Table && kind != Folded {
		return media
	}
	text := skipSpace(bytes.TrimPrefix(head, []byte("\xEF\xBB\xBF")))
	if len(text) == 0 || text[0] != '<' || page && !hasPrefix(text, "<?xml") {
		return media
	}
	switch root, well := opensXML(text, all); {
	case root == "!html" || pageElements[atom.Lookup([]byte(strings.ToLower(root)))]:
		if page {
			return media
		}
		return "text/html"
	case well, root == "!", hasPrefix(text, "<?xml"):
		return "application/xml"
	}
	return media
}

// pageElements are those that a page, or a piece of one, begins with.
var pageElements = map[atom.Atom]bool{
	atom.Html: true, atom.Head: true, atom.Body: true, atom.Meta: true, atom.Script: true, atom.Style: true, atom.Div: true, atom.P: true, atom.Span: true, atom.Table: true,
	atom.Tr: true, atom.Ul: true, atom.Ol: true, atom.Dl: true, atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.Form: true, atom.Section: true, atom.Article: true,
	atom.Main: true, atom.Nav: true, atom.Pre: true, atom.Br: true, atom.Hr: true, atom.Img: true, atom.B: true, atom.I: true, atom.Strong: true, atom.Em: true, atom.Center: true, atom.Font: true,
}

// errHead says that a head ends before it is known what it begins.
var errHead = errors.New("the head ends")

// opensXML tells the name of the first element of a text, or "!" for a document type
// before it and "!html" for that of pages, and whether all of the text may be the
// beginning of an XML document.
func opensXML(text []byte, all bool) (root string, well bool) {
	dec := xml.NewDecoder(io.MultiReader(bytes.NewReader(text), failing{}))
	if all {
		dec = xml.NewDecoder(bytes.NewReader(text))
	}
	var open []string
	for {
		t, err := dec.RawToken()
		switch {
		case errors.Is(err, errHead):
			return root, root != ""
		case err != nil:
			return root, errors.Is(err, io.EOF) && root != "" && len(open) == 0
		}
		switch t := t.(type) {
		case xml.Directive:
			if f := strings.Fields(string(t)); len(f) > 1 && strings.EqualFold(f[0], "doctype") && strings.EqualFold(f[1], "html") {
				return "!html", false
			}
			return "!", false
		case xml.StartElement:
			if root != "" && len(open) == 0 {
				return root, false // a second one
			}
			if root == "" {
				root = t.Name.Local
			}
			open = append(open, t.Name.Space+":"+t.Name.Local)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != t.Name.Space+":"+t.Name.Local {
				return root, false
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) == 0 && len(bytes.TrimSpace(t)) > 0 {
				return root, false
			}
		}
	}
}

// failing is what comes after a head.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errHead }

// looksJSON tells whether trying to read text as JSON is worth it: an object, an
// array, or a string in quotes.
func looksJSON(text []byte) bool {
	if !opensJSON(text) {
		return false
	}
	text = skipSpace(text)
	for len(text) > 0 && isSpace(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	return len(text) >= 2 && (text[0] != '"' || text[len(text)-1] == '"')
}

// isSpace tells whether c may stand between the tokens of JSON.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// skipSpace leaves out what isSpace at the beginning.
func skipSpace(text []byte) []byte {
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	return text
}

// opensJSON tells whether text could be the beginning of such a document.
func opensJSON(text []byte) bool {
	if len(text) < 2 || text[0] > ' ' && text[0] != '{' && text[0] != '[' && text[0] != '"' {
		return false
	}
	text = skipSpace(text)
	if len(text) == 0 {
		return false
	}
	switch text[0] {
	case '"':
		return true
	case '{', '[':
		next := skipSpace(text[1:])
		if len(next) == 0 {
			return true
		}
		if text[0] == '{' {
			return next[0] == '"' || next[0] == '}'
		}
		return strings.IndexByte(`"{[]-0123456789tfn`, next[0]) >= 0
	}
	return false
}

// claimsJSON tells whether text can hardly be anything but JSON, even cut off.
func claimsJSON(text []byte) bool {
	text = skipSpace(text)
	for len(text) > 0 && text[0] == '[' {
		text = skipSpace(text[1:])
		if len(text) > 0 && text[0] == '{' {
			break
		}
	}
	if len(text) < 2 || text[0] != '{' {
		return false
	}
	next := skipSpace(text[1:])
	return len(next) == 0 || next[0] == '"'
}
