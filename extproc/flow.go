package extproc

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

// flow turns a response body into what the caller gets.
type flow interface {
	// write takes the next bytes and returns those that may leave now.
	write(p []byte) ([]byte, error)
	// close ends the body and returns the last bytes.
	close() ([]byte, error)
	findings() []mask.Finding
	// waits says that the headers leave with the first bytes and no sooner, so
	// that a refusal until then is still a clean answer.
	waits() bool
	// held is how many bytes of the body are in memory.
	held() int
}

// shape is what decides how a response is handled.
type shape struct {
	masker   *mask.Masker // nil: nothing is hidden
	meta     call.Metadata
	messages Messages
	headers  call.Headers
	limits   mask.Limits
	ends     func(stop func()) // takes what must be called when the response is over
}

// flow chooses how a response is handled, or says why it can't be.
func (s shape) flow() (flow, error) {
	if s.masker == nil {
		return &passing{}, nil
	}
	if s.headers.Get(":status") == "206" {
		return nil, errors.New("a partial response (206) can't be masked, since a value may be cut at its edge")
	}
	f, err := s.known()
	var no *unreadable
	if errors.As(err, &no) && s.meta.Response.Binary == call.BinaryPass {
		return s.binary(), nil
	}
	return f, err
}

// unreadable says that a response is of no kind that can be masked. The
// connection may let it through all the same.
type unreadable struct{ what string }

func (u *unreadable) Error() string {
	return u.what + " can't be masked; let the function answer in another form, or set the connection's binary: pass"
}

// known finds the way for a type.
func (s shape) known() (flow, error) {
	types := s.headers.Values("content-type")
	if len(types) > 1 {
		return nil, errors.New("the response has more than one content-type")
	}
	declared := strings.Join(types, "")
	media, params, err := mime.ParseMediaType(declared)
	if declared != "" && err != nil {
		return nil, fmt.Errorf("the response's content-type can't be read: %w", err)
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" && cs != "utf8" && cs != "us-ascii" {
		return nil, &unreadable{fmt.Sprintf("a response in charset %q", cs)}
	}
	m := s.masker
	if s.meta.Protocol == call.GRPC {
		return s.grpc()
	}
	switch mask.KindOf(media) {
	case mask.Units:
		return &flowing{masking: m.NewStream(declared, s.limits.Whole), early: true}, nil
	case mask.JSON:
		return &flowing{masking: m.NewJSON(s.limits)}, nil
	case mask.Text:
		return s.text(media), nil
	case mask.Folded:
		return &whole{masker: m, contentType: declared, limit: s.limits.Whole}, nil
	case mask.Table:
		table := m.NewCSV(mask.Comma(media), params["header"] == "absent", s.limits.Whole)
		return &sniffed{decide: func(head []byte) flow {
			if mask.OpensJSON(head) { // whatever it is said to be
				return &flowing{masking: m.NewText(s.limits)}
			}
			if as := mask.Actual(media, head, len(head) < sniffBytes); as != media {
				return s.document(as)
			}
			return &flowing{masking: table}
		}}, nil
	case mask.Markup:
		if strings.HasPrefix(media, "multipart/") {
			return &whole{masker: m, contentType: declared, limit: s.limits.Whole}, nil
		}
		return &sniffed{decide: func(head []byte) flow {
			if mask.OpensJSON(head) { // it is JSON, or is searched as text
				return &flowing{masking: m.NewText(s.limits)}
			}
			return s.document(mask.Actual(media, head, len(head) < sniffBytes))
		}}, nil
	default:
		return nil, &unreadable{fmt.Sprintf("a response of type %q", media)}
	}
}

// text is a body of some type of text, which may turn out to be of another one.
func (s shape) text(media string) flow {
	return &sniffed{decide: func(head []byte) flow { return s.textOf(media, head) }}
}

func (s shape) textOf(media string, head []byte) flow {
	if as := mask.Actual(media, head, len(head) < sniffBytes); as != media {
		return s.document(as)
	}
	return &flowing{masking: s.masker.NewText(s.limits)}
}

// document is a body in XML or HTML, or a form.
func (s shape) document(media string) flow {
	d := s.masker.NewDocument(media, s.limits.Whole)
	s.ends(d.Stop)
	return &flowing{masking: d}
}

func (s shape) grpc() (flow, error) {
	out, err := s.messages.Output(s.meta.Connection, s.meta.Function)
	if err != nil {
		return nil, fmt.Errorf("the type of the response is not known, so it can't be masked: %w", err)
	}
	return &framed{masker: s.masker, messages: out, what: "response", limit: s.limits.Whole, encoding: s.headers.Get("grpc-encoding")}, nil
}

// passing hides nothing.
type passing struct{}

func (*passing) write(p []byte) ([]byte, error) { return p, nil }
func (*passing) close() ([]byte, error)         { return nil, nil }
func (*passing) findings() []mask.Finding       { return nil }
func (*passing) waits() bool                    { return false }
func (*passing) held() int                      { return 0 }

// masking masks a body that arrives in chunks.
type masking interface {
	Write(p []byte) ([]byte, error)
	Close() ([]byte, error)
	Findings() []mask.Finding
	Held() int
}

// flowing masks a body while it streams by.
type flowing struct {
	masking
	early bool // the headers of a stream of events don't wait for the first one
}

func (f *flowing) write(p []byte) ([]byte, error) { return f.Write(p) }
func (f *flowing) close() ([]byte, error)         { return f.Close() }
func (f *flowing) findings() []mask.Finding       { return f.Findings() }
func (f *flowing) waits() bool                    { return !f.early }
func (f *flowing) held() int                      { return f.Held() }

// whole is a body that is masked when all of it is there.
type whole struct {
	masker      *mask.Masker
	contentType string
	limit       int
	body        []byte
	found       []mask.Finding
}

func (f *whole) write(p []byte) ([]byte, error) {
	if len(f.body)+len(p) > f.limit {
		return nil, fmt.Errorf("a document of type %s over %d bytes can't be held to be masked; raise the connection's max_response or let the function answer in pages", f.contentType, f.limit)
	}
	f.body = append(f.body, p...)
	return nil, nil
}

func (f *whole) close() ([]byte, error) {
	if len(f.body) == 0 {
		return nil, nil
	}
	out, found, err := f.masker.Whole(f.contentType, f.body)
	f.found = found
	return out, err
}

func (f *whole) findings() []mask.Finding { return f.found }
func (*whole) waits() bool                { return true }
func (f *whole) held() int                { return 2 * cap(f.body) } // and what it becomes

// sniffed is a response whose first bytes show how it is handled.
type sniffed struct {
	decide func(head []byte) flow
	buf    []byte
	next   flow
}

// sniffBytes is how much of a body that takes.
const sniffBytes = 4 << 10

func (f *sniffed) write(p []byte) ([]byte, error) {
	if f.next != nil {
		return f.next.write(p)
	}
	if f.buf = append(f.buf, p...); len(f.buf) < sniffBytes {
		return nil, nil
	}
	return f.begin()
}

func (f *sniffed) begin() ([]byte, error) {
	buf := f.buf
	f.next, f.buf = f.decide(buf[:min(len(buf), sniffBytes)]), nil // wherever the chunks are cut
	return f.next.write(buf)
}

func (f *sniffed) close() ([]byte, error) {
	var out []byte
	if f.next == nil {
		var err error
		if out, err = f.begin(); err != nil {
			return nil, err
		}
	}
	rest, err := f.next.close()
	return append(out[:len(out):len(out)], rest...), err
}

func (f *sniffed) findings() []mask.Finding {
	if f.next == nil {
		return nil
	}
	return f.next.findings()
}

func (*sniffed) waits() bool { return true }

func (f *sniffed) held() int {
	if f.next == nil {
		return cap(f.buf)
	}
	return f.next.held()
}

// binary is a response that the connection lets through although its type can't
// be masked. What is text all the same is masked as text: the type may be wrong.
func (s shape) binary() flow {
	return &sniffed{decide: func(head []byte) flow {
		if isText(head, len(head) < sniffBytes) {
			return s.textOf("", head)
		}
		return &passed{finding: mask.Finding{Rule: "binary: pass", Type: "passed", Path: s.headers.Get("content-type"), Count: 1}}
	}}
}

// isText tells whether bytes are the beginning of a text in UTF-8.
func isText(b []byte, whole bool) bool {
	if bytes.IndexByte(b, 0) >= 0 {
		return false
	}
	if !whole { // the last character may be cut in two
		for n := 0; n < utf8.UTFMax && len(b) > 0 && !utf8.Valid(b[len(b)-1:]); n++ {
			b = b[:len(b)-1]
		}
	}
	return utf8.Valid(b)
}

// passed is what went through without being searched, with a note of that.
type passed struct {
	passing
	finding mask.Finding
}

func (p *passed) findings() []mask.Finding { return []mask.Finding{p.finding} }
