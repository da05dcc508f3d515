package extauthz

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// maskRequest hides of the request what the function must not be sent. Rules and
// people have judged the request as the caller sent it; from here on, the record
// included, it is what the function gets. It is rewritten by ext_proc, which this
// Envoy must let see it.
func (d *decision) maskRequest() *denied {
	r := &d.call.Request
	path, body, no := d.maskParts()
	samePath, sameBody := path == r.Path, bytes.Equal(body, r.Body)
	switch {
	case no != nil:
		return no
	case len(d.conn.RequestMask.Rules) == 0 || samePath && sameBody && !d.call.Unread:
		return nil
	case !d.edits:
		return uneditable
	}
	d.request = d.rewritten(path)
	if d.call.Unread {
		d.request.Stream = true
		return nil
	}
	if !sameBody {
		d.request.Judged, d.request.Sent = call.HashOf(r.Body), call.HashOf(body)
	}
	masked := *r
	masked.Path, masked.Body = path, body
	masked.Headers = slices.Clone(r.Headers)
	for i := range masked.Headers {
		if masked.Headers[i].Name == "content-length" {
			masked.Headers[i].Value = strconv.Itoa(len(body))
		}
	}
	inv, err := d.conn.Parser.Parse(&masked)
	if err != nil || inv.Function != d.call.Function {
		return notWithout
	}
	d.call.Args, d.call.ArgsJSON, d.call.Request = inv.Args, inv.ArgsJSON, masked
	return nil
}

var (
	uneditable = &denied{call.ReasonRequestWhole, "the request holds what the function must not be sent, and this Envoy does not let it be rewritten; leave it out"}
	notWithout = &denied{call.ReasonRequestWhole, "the request holds what the function must not be sent, and without it is no call of it; leave it out"}
)

// maskParts returns path and body as the function may have them, and takes note of
// what was hidden.
func (d *decision) maskParts() (path string, body []byte, no *denied) {
	r := &d.call.Request
	if len(d.conn.RequestMask.Rules) == 0 {
		return r.Path, r.Body, nil
	}
	if d.server.cfg.Requests == nil {
		return "", nil, deny(call.ReasonInternal, "the gateway can't mask requests")
	}
	path, body, hidden, err := d.server.cfg.Requests.Mask(d.ctx, d.conn.RequestMask, &d.call, d.inPath)
	if err != nil {
		return "", nil, deny(call.ReasonRequestWhole, "this connection masks what its functions are sent: %v", err)
	}
	if path != r.Path || !bytes.Equal(body, r.Body) {
		d.hidden = hidden
	}
	return path, body, nil
}

// rewritten is what ext_proc must know to rewrite the path, if it is another.
func (d *decision) rewritten(path string) *call.RequestMask {
	m := &call.RequestMask{Mask: d.conn.RequestMask}
	if path != d.call.Request.Path {
		m.JudgedPath, m.SentPath = call.HashOf([]byte(d.call.Request.Path)), call.HashOf([]byte(path))
	}
	return m
}

// maskMembers hides of each call of a batch that is allowed what the function must
// not be sent. Those of which that can't be hidden are denied.
func (d *decision) maskMembers(members []*member) {
	for _, m := range members {
		if !m.allowed() {
			continue
		}
		path, body, no := m.maskParts()
		r := &m.call.Request
		switch {
		case no != nil:
		case path == r.Path && bytes.Equal(body, r.Body):
			continue
		case !d.edits:
			no = uneditable
		default:
			masked := *r
			masked.Path, masked.Body = path, body
			inv, err := m.conn.Batches.Message(&masked)
			if err != nil || inv.Function != m.call.Function {
				no = notWithout
				break
			}
			m.path = path
			m.call.Args, m.call.ArgsJSON, m.call.Request = inv.Args, inv.ArgsJSON, masked
		}
		if no != nil {
			m.refuse(no.reason, no.message)
		}
	}
}

// maskBatch says how the request is rewritten that the function gets of a batch.
func (d *decision) maskBatch(members []*member) {
	r := &d.call.Request
	var sent [][]byte
	var path string
	same := true
	for _, m := range members {
		if !m.allowed() {
			continue
		}
		sent = append(sent, m.call.Request.Body)
		same = same && bytes.Equal(m.call.Request.Body, r.Body[m.start:m.end])
		if m.path != "" {
			path = m.path // all have the same
		}
	}
	if same && path == "" {
		return
	}
	if path == "" {
		path = r.Path
	}
	d.request = d.rewritten(path)
	if !same {
		d.request.Judged, d.request.Sent = call.HashOf(r.Body), call.HashOf(protocol.BatchOf(sent))
	}
}
