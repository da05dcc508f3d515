package extproc

import (
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
	// whole says that nothing leaves before close, the headers included, so
	// that a refusal is still a clean answer.
	whole() bool
}

// flowFor chooses how a response is handled, or says why it can't be.
func flowFor(m *mask.Masker, meta call.Metadata, messages Messages, h call.Headers, limit int64) (flow, error) {
	if m == nil {
		return &passing{}, nil
	}
	for _, e := range h.Values("content-encoding") { // the last one counts as much as the first
		if e != "" && !strings.EqualFold(e, "identity") {
			return nil, fmt.Errorf("the response is %s-encoded and can't be read to be masked; let the function answer without content-encoding", e)
		}
	}
	if h.Get(":status") == "206" {
		return nil, errors.New("a partial response (206) can't be masked, since a value may be cut at its edge")
	}
	types := h.Values("content-type")
	if len(types) > 1 {
		return nil, errors.New("the response has more than one content-type")
	}
	declared := strings.Join(types, "")
	media, params, err := mime.ParseMediaType(declared)
	if declared != "" && err != nil {
		return nil, fmt.Errorf("the response's content-type can't be read: %w", err)
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" && cs != "utf8" && cs != "us-ascii" {
		return nil, fmt.Errorf("a response in charset %q can't be masked; let the function answer in utf-8", cs)
	}
	switch {
	case meta.Protocol == call.GRPC:
		out, err := messages.Output(meta.Connection, meta.Function)
		if err != nil {
			return nil, fmt.Errorf("the type of the response is not known, so it can't be masked: %w", err)
		}
		return &framed{masker: m, output: out, limit: int(limit)}, nil
	case media == "text/event-stream", ndjson[media]:
		return &streamed{s: m.NewStream(declared, int(limit))}, nil
	case media == "application/json", media == "text/json", strings.HasSuffix(media, "+json"):
		return &held{limit: limit, mask: m.JSON}, nil
	case media == "", media == "text/plain", media == "text/csv":
		return &held{limit: limit, mask: readable(m.Text)}, nil
	default:
		return nil, fmt.Errorf("a response of type %q can't be masked", media)
	}
}

var ndjson = map[string]bool{
	"application/x-ndjson": true, "application/ndjson": true, "application/jsonl": true,
	"application/x-jsonlines": true, "application/jsonlines": true,
}

// readable refuses what is not text before it is searched as text.
func readable(text func([]byte) ([]byte, []mask.Finding, error)) func([]byte) ([]byte, []mask.Finding, error) {
	return func(b []byte) ([]byte, []mask.Finding, error) {
		if !utf8.Valid(b) {
			return nil, nil, fmt.Errorf("the text is not UTF-8: %w", mask.ErrInvalid)
		}
		return text(b)
	}
}

// passing hides nothing.
type passing struct{}

func (*passing) write(p []byte) ([]byte, error) { return p, nil }
func (*passing) close() ([]byte, error)         { return nil, nil }
func (*passing) findings() []mask.Finding       { return nil }
func (*passing) whole() bool                    { return false }

// held keeps the body until it is all there.
type held struct {
	limit int64
	mask  func([]byte) ([]byte, []mask.Finding, error)
	body  []byte
	found []mask.Finding
}

func (f *held) write(p []byte) ([]byte, error) {
	if int64(len(f.body)+len(p)) > f.limit {
		return nil, fmt.Errorf("a response over %d bytes can't be held to be masked; raise the connection's max_response or let the function answer in pages", f.limit)
	}
	f.body = append(f.body, p...)
	return nil, nil
}

func (f *held) close() ([]byte, error) {
	if len(f.body) == 0 {
		return nil, nil
	}
	out, found, err := f.mask(f.body)
	f.found = found
	return out, err
}

func (f *held) findings() []mask.Finding { return f.found }
func (*held) whole() bool                { return true }

// streamed masks event by event or line by line.
type streamed struct{ s *mask.Stream }

func (f *streamed) write(p []byte) ([]byte, error) { return f.s.Write(p) }
func (f *streamed) close() ([]byte, error)         { return f.s.Close() }
func (f *streamed) findings() []mask.Finding       { return f.s.Findings() }
func (*streamed) whole() bool                      { return false }
