package mask

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// XML masks an XML document. A field path names elements and attributes by their
// local names, from the root element or from within it: "customer.card" is
// <customer><card>, "item[*].iban" and "item.iban" are those of all its items,
// "card.number" also is <card number="…">. Ranges of the document are rewritten
// in place. Document types are refused, and with them entities that one would
// have to define. On an error withhold the response.
func (m *Masker) XML(body []byte) (out []byte, found []Finding, err error) {
	return m.document("xml", len(body)+1, newXML).everything(body)
}

type xmlDoc struct {
	*Document
	gone int64 // bytes that have left
	at   int   // what is before was read
	open []*element
	mute int // > 0 inside an element that is hidden whole
	root bool
}

func newXML(d *Document) markup { return &xmlDoc{Document: d} }

// element is one that is open.
type element struct {
	name  xml.Name
	start int // of its tag
	from  int // of its content
	text  gathered
	live  liveStates
	v     verdict
	mark  int
	mine  bool // hidden as a whole
	nth   map[string]int
}

// settled is before whatever an open element may still hide.
func (x *xmlDoc) settled() int {
	at := x.at
	for _, e := range x.open {
		switch {
		case e.mine:
			return min(at, e.start)
		case len(e.text.parts) == 0:
		case len(e.nth) == 0: // it may be hidden as one value
			at = min(at, e.from)
		default:
			at = min(at, e.text.parts[0].start)
		}
	}
	return at
}

func (x *xmlDoc) left(n int) {
	x.gone, x.at = x.gone+int64(n), x.at-n
	for _, e := range x.open {
		e.start, e.from = e.start-n, e.from-n
		e.text.cut(n)
	}
}

func (x *xmlDoc) fail(at int, what string) error {
	return fmt.Errorf("xml at byte %d: %s: %w", x.gone+int64(at), what, ErrInvalid)
}

// maxNames bounds the names of the elements within one.
const maxNames = 1 << 16

func (x *xmlDoc) parse(in *feed) error {
	dec := xml.NewDecoder(in) // which reads no further than it must
	for {
		t, err := dec.RawToken()
		if in.shut {
			return io.ErrClosedPipe
		}
		start := x.at
		if errors.Is(err, io.EOF) {
			if len(x.open) > 0 || !x.root {
				return x.fail(start, "the document ends too early")
			}
			x.at = len(x.src)
			return nil
		}
		if err != nil {
			return x.fail(start, "not well formed")
		}
		end := int(dec.InputOffset() - x.gone)
		if end-start > x.limit {
			return x.tooLarge()
		}
		if err := x.token(t, start, end); err != nil {
			return err
		}
		x.at = end
	}
}

func (x *xmlDoc) token(t xml.Token, start, end int) error {
	switch t := t.(type) {
	case xml.Directive:
		return x.fail(start, "a document type, whose entities could stand for anything")
	case xml.ProcInst:
		x.aside(start, end)
	case xml.Comment:
		x.aside(start, end)
	case xml.StartElement:
		return x.begin(t, start, end)
	case xml.EndElement:
		n := len(x.open)
		if n == 0 || x.open[n-1].name != t.Name {
			return x.fail(start, "an end tag without its start")
		}
		return x.end(start, end)
	case xml.CharData:
		if len(x.open) == 0 {
			if len(bytes.TrimSpace(t)) > 0 && !bytes.Equal(t, []byte("\ufeff")) {
				return x.fail(start, "text outside the document")
			}
			return nil
		}
		text := &x.open[len(x.open)-1].text
		if bytes.HasPrefix(x.src[start:end], []byte("<![CDATA[")) {
			text.add(x.src, start+len("<![CDATA["), end-len("]]>"), "", nil)
		} else {
			text.add(x.src, start, end, "&", reference)
		}
	}
	return nil
}

// aside searches what is no content, and is sent all the same.
func (x *xmlDoc) aside(start, end int) {
	if x.mute > 0 {
		return
	}
	n := len(x.w.edits)
	x.w.text(x.src[start:end], nil, start, false, true)
	x.w.split(n, []part{{start, end}}, escapeMarkup)
}

func names(n xml.Name) []string {
	if n.Space != "" {
		return []string{n.Local, n.Space + ":" + n.Local}
	}
	return []string{n.Local}
}

func (x *xmlDoc) begin(t xml.StartElement, start, end int) error {
	w := x.w
	if len(x.open) >= w.m.maxDepth {
		return fmt.Errorf("xml at byte %d: more than %d levels: %w", x.gone+int64(start), w.m.maxDepth, ErrTooDeep)
	}
	if w.tells([]byte(t.Name.Local)) {
		return x.fail(start, "the name of an element is a value that must be hidden")
	}
	e := &element{name: t.Name, start: start, from: end, mark: w.mark()}
	w.push()
	if n := len(x.open); n == 0 {
		if x.root {
			return x.fail(start, "a second root element")
		}
		x.root = true
		v := w.arrive(verdict{})
		e.v = w.enterName(w.cur, v, -1, names(t.Name)...)
		if len(w.m.paths.steps) > 0 {
			e.v = w.restart(e.v) // paths may leave the root element out
		}
	} else {
		around := x.open[n-1]
		if around.nth == nil {
			around.nth = map[string]int{}
		}
		e.v = around.v
		if x.mute == 0 {
			e.v = w.enterName(around.live, around.v, around.nth[t.Name.Local], names(t.Name)...)
		}
		if around.nth[t.Name.Local]++; len(around.nth) > maxNames {
			return fmt.Errorf("xml at byte %d: more than %d names in one element: %w", x.gone+int64(start), maxNames, ErrTooLarge)
		}
		if len(bytes.TrimSpace(around.text.b)) == 0 {
			around.text.clear() // white space between elements, which need not wait for the end
		}
	}
	e.live = w.cur
	if e.mine = x.mute == 0 && e.v.how != howNone; e.mine {
		x.mute++
	}
	x.open = append(x.open, e)
	if x.mute == 0 || e.mine && e.v.how != howDrop {
		return x.attributes(e, start, end)
	}
	return nil
}

// attributes masks those of a tag, which is known to be well formed.
func (x *xmlDoc) attributes(e *element, start, end int) error {
	tag := x.src[start:end]
	for i := bytes.IndexAny(tag, " \t\r\n/>"); ; {
		for i < len(tag) && strings.IndexByte(" \t\r\n", tag[i]) >= 0 {
			i++
		}
		eq := bytes.IndexByte(tag[i:], '=')
		if eq < 0 || tag[i] == '/' || tag[i] == '>' {
			return nil
		}
		name := strings.TrimRight(string(tag[i:i+eq]), " \t\r\n")
		i += eq + 1
		for i < len(tag) && strings.IndexByte(" \t\r\n", tag[i]) >= 0 {
			i++
		}
		if i >= len(tag) || tag[i] != '"' && tag[i] != '\'' {
			return x.fail(start, "an attribute without quotes")
		}
		from := i + 1
		n := bytes.IndexByte(tag[from:], tag[i])
		if n < 0 {
			return x.fail(start, "an attribute that does not end")
		}
		if err := x.attribute(e, name, start+from, start+from+n); err != nil {
			return err
		}
		i = from + n + 1
	}
}

func (x *xmlDoc) attribute(e *element, name string, start, end int) error {
	w := x.w
	w.push()
	defer w.pop()
	mark := w.mark()
	defer w.leave(mark)
	local := name[strings.IndexByte(name, ':')+1:]
	if w.tells([]byte(local)) {
		return x.fail(start, "the name of an attribute is a value that must be hidden")
	}
	v := w.enterName(e.live, e.v, -1, local, name, "@"+local)
	return w.value(x.src, start, end, v, "&", reference, escapeMarkup)
}

// value masks a value that stands at src[start:end], written in some way.
func (w *walker) value(src []byte, start, end int, v verdict, sign string, decode func([]byte) (rune, int), form func([]byte) []byte) error {
	if start >= end {
		return nil
	}
	var g gathered
	g.add(src, start, end, sign, decode)
	if v = w.leaf(v); v.how != howNone {
		w.hide(start, end, g.b, v, form)
		return nil
	}
	n := len(w.edits)
	if err := w.content(g.b, g.at, 0); err != nil {
		return err
	}
	w.split(n, g.parts, form)
	return nil
}

func (x *xmlDoc) end(start, end int) error {
	w := x.w
	e := x.open[len(x.open)-1]
	x.open = x.open[:len(x.open)-1]
	var err error
	switch {
	case e.mine:
		x.mute--
		switch {
		case e.v.how == howDrop && len(x.open) > 0:
			w.edits = append(w.edits, edit{start: e.start, end: end})
			w.report(int(e.v.rule), e.v.kind(), "")
		case start > e.from: // there is something in it
			text := e.text.b
			if len(e.nth) > 0 {
				text = nil // elements, too
			}
			w.hide(e.from, start, text, e.v, escapeMarkup)
		}
	case x.mute == 0 && len(e.text.parts) > 0:
		if v := w.leaf(verdict{}); v.how != howNone && len(e.nth) == 0 && len(bytes.TrimSpace(e.text.b)) > 0 {
			w.hide(e.from, start, e.text.b, v, escapeMarkup)
			break
		}
		n := len(w.edits)
		if err = w.content(e.text.b, e.text.at, 0); err == nil {
			w.split(n, e.text.parts, escapeMarkup)
		}
	}
	w.pop()
	w.leave(e.mark)
	return err
}
