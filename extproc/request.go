package extproc

import (
	"errors"
	"fmt"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// editing is the part of a call in which a batch loses what is denied of it, and a
// request what the function must not be sent. It comes after the decision and
// before the function.
type editing struct {
	buffered bool              // Envoy hands the whole body over
	streamed bool              // Envoy hands the body over as it comes
	stream   *framed           // masks a body that is streamed; nil: there is none
	batch    *call.Batch       // nil: nothing is taken out
	mask     *call.RequestMask // nil: nothing is masked
	headers  call.Headers
	done     bool // with the body
	path     bool // so with the path
}

// unmasked reports whether the function got a request that was to be masked as it
// was.
func (r *response) unmasked() bool {
	m := r.meta.Request
	return m != nil && (m.SentPath != "" && !r.editing.path || m.Judged != "" && !r.editing.done || m.Stream && r.editing.stream == nil)
}

// requestHeaders lets a request go on, to its body where that is to be edited.
func (r *response) requestHeaders(req *extprocv3.ProcessingRequest, m *extprocv3.HttpHeaders) ([]*extprocv3.ProcessingResponse, error) {
	ok := one(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{}}})
	meta, known, err := metadataOf(req.GetMetadataContext())
	r.meta = meta
	switch {
	case err != nil:
		return r.withhold(err)
	case (r.editing.buffered || r.editing.streamed) && !(known && meta.Outcome.Allowed()):
		// What could be taken out is not known, so nothing passes.
		return r.withhold(errors.New("there is no decision that allows this request; ext_authz must run before ext_proc, and its metadata namespace be forwarded"))
	}
	r.editing.headers = headersOf(m.GetHeaders())
	if meta.Batch != nil && (meta.Batch.Edit || meta.Request != nil && meta.Request.Judged != "") {
		if r.batch, err = r.server.newBatch(r.ctx, meta); err != nil {
			return r.withhold(err)
		}
		r.editing.batch = meta.Batch
	}
	if r.editing.mask = meta.Request; meta.Request != nil {
		if meta.Request.SentPath != "" {
			path, err := r.maskPath(r.editing.headers.Get(":path"))
			if err != nil {
				return r.withhold(err)
			}
			r.editing.path = true
			ok[0].GetRequestHeaders().Response = &extprocv3.CommonResponse{HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{header(":path", path)}}}
		}
		if meta.Request.Stream {
			return r.streamRequest(ok)
		}
	}
	switch {
	case !r.edits():
	case !r.editing.buffered:
		return r.withhold(errors.New("envoy does not hand the request body over, so nothing can be taken out of it; set request_body_mode to BUFFERED"))
	case m.GetEndOfStream():
		return r.withhold(errors.New("the request that was judged has a body, and this has none"))
	}
	return ok, nil
}

// edits reports whether the body that was judged is not the one that the function
// gets.
func (r *response) edits() bool {
	e := &r.editing
	return e.batch != nil || e.mask != nil && e.mask.Judged != ""
}

// streamRequest begins to mask messages that nobody has judged.
func (r *response) streamRequest(ok []*extprocv3.ProcessingResponse) ([]*extprocv3.ProcessingResponse, error) {
	if !r.editing.streamed {
		return r.withhold(errors.New("envoy does not hand the request body over as it comes, so it can't be masked; set request_body_mode to FULL_DUPLEX_STREAMED"))
	}
	masker, err := r.server.requests.masker(r.ctx, r.editing.mask.Mask, r.meta.Protocol)
	if err == nil && masker == nil {
		err = errors.New("there is no mask for the request's messages")
	}
	if err != nil {
		return r.withhold(err)
	}
	if r.editing.stream, err = r.server.requests.framed(masker, r.meta.Connection, r.meta.Function, r.editing.headers); err != nil {
		return r.withhold(err)
	}
	r.editing.stream.limit = r.limits().Whole
	return ok, nil
}

// requestStreamed masks the next part of a body that is streamed.
func (r *response) requestStreamed(body []byte, end bool) ([]*extprocv3.ProcessingResponse, error) {
	out := body
	if s := r.editing.stream; s != nil {
		var err error
		if out, err = s.write(body); err == nil && end {
			_, err = s.close()
		}
		if err == nil {
			err = r.share.hold(s.held())
		}
		if err != nil {
			if r.begun {
				return nil, fmt.Errorf("the request can't be masked: %w", err)
			}
			return r.withhold(fmt.Errorf("the request can't be masked: %w", err))
		}
	}
	if len(out) == 0 && !end {
		return nil, nil
	}
	var list []*extprocv3.ProcessingResponse
	for _, p := range pieces(out) {
		list = append(list, requestBodyOK(&extprocv3.CommonResponse{BodyMutation: streamed(p, false)}))
	}
	list[len(list)-1].GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse().EndOfStream = end
	return list, nil
}

// requestTrailers ends a body that is streamed.
func (r *response) requestTrailers() ([]*extprocv3.ProcessingResponse, error) {
	if s := r.editing.stream; s != nil {
		if _, err := s.close(); err != nil {
			return nil, fmt.Errorf("the request can't be masked: %w", err)
		}
	}
	return one(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestTrailers{RequestTrailers: &extprocv3.TrailersResponse{}}}), nil
}

// requestBody takes the denied calls out of a batch, and masks what the function
// gets. What is left are the bytes that were judged, or nothing passes.
func (r *response) requestBody(m *extprocv3.HttpBody) ([]*extprocv3.ProcessingResponse, error) {
	body := m.GetBody()
	if r.editing.streamed {
		return r.requestStreamed(body, m.GetEndOfStream())
	}
	common := &extprocv3.CommonResponse{}
	if r.edits() {
		if r.editing.done {
			return r.withhold(errors.New("the request body came in parts, so it can't be edited; set request_body_mode to BUFFERED"))
		}
		var kept []byte
		var err error
		if e := r.editing.mask; e != nil && e.Judged != "" {
			kept, err = r.maskRequest(body)
		} else {
			kept, err = edit(r.editing.batch, body)
		}
		if err != nil {
			return r.withhold(err)
		}
		r.editing.done = true
		common.BodyMutation = &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: kept}}
		common.HeaderMutation = &extprocv3.HeaderMutation{RemoveHeaders: digests}
		if len(r.editing.headers.Values("content-length")) > 0 {
			common.HeaderMutation.SetHeaders = append(common.HeaderMutation.SetHeaders, header("content-length", strconv.Itoa(len(kept))))
		}
	}
	return one(requestBodyOK(common)), nil
}

func requestBodyOK(common *extprocv3.CommonResponse) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{
		RequestBody: &extprocv3.BodyResponse{Response: common}}}
}

// digests describe the exact bytes that the caller sent (RFC 9530, and before).
var digests = []string{"digest", "repr-digest", "content-digest", "content-md5"}

// edit returns the batch without what is denied.
func edit(b *call.Batch, body []byte) ([]byte, error) {
	if call.HashOf(body) != b.SHA256 {
		return nil, errors.New("the request body is not the one that was judged")
	}
	kept, err := allowedOf(b, body)
	if err != nil {
		return nil, err
	}
	return protocol.BatchOf(kept), nil
}

// allowedOf are the messages of the batch in body that are allowed.
func allowedOf(b *call.Batch, body []byte) ([][]byte, error) {
	var places [][2]int
	for _, c := range b.Calls {
		if c.Denied == nil {
			places = append(places, [2]int{c.Start, c.End})
		}
	}
	kept, err := protocol.Messages(body, places)
	if err != nil {
		return nil, fmt.Errorf("take denied calls out of a batch: %w", err)
	}
	if len(kept) == 0 {
		return nil, errors.New("no call of the batch is allowed")
	}
	return kept, nil
}

// modes are how Envoy hands over what.
func (r *response) modes(c *extprocv3.ProtocolConfiguration) {
	r.mode = c.GetResponseBodyMode()
	r.editing.buffered = c.GetRequestBodyMode() == extprocfilterv3.ProcessingMode_BUFFERED
	r.editing.streamed = c.GetRequestBodyMode() == extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED
}
