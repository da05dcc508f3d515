package extproc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// editing is the part of a call in which a batch loses what is denied of it. It
// comes after the decision and before the function.
type editing struct {
	buffered bool              // Envoy hands the whole body over
	batch    *call.Batch       // nil: nothing is taken out
	mask     *call.RequestMask // nil: nothing is masked
	headers  call.Headers
	done     bool
}

// requestHeaders lets a request go on, to its body where that is to be edited.
func (r *response) requestHeaders(req *extprocv3.ProcessingRequest, m *extprocv3.HttpHeaders) ([]*extprocv3.ProcessingResponse, error) {
	ok := one(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{}}})
	meta, known, err := metadataOf(req.GetMetadataContext())
	r.meta = meta
	switch {
	case err != nil:
		return r.withhold(err)
	case r.editing.buffered && !(known && meta.Outcome.Allowed()):
		// What could be taken out is not known, so nothing passes.
		return r.withhold(errors.New("there is no decision that allows this request; ext_authz must run before ext_proc, and its metadata namespace be forwarded"))
	case meta.Request != nil:
		r.editing.mask, r.editing.headers = meta.Request, headersOf(m.GetHeaders())
		switch {
		case !r.editing.buffered:
			return r.withhold(errors.New("envoy does not hand the request body over, so it can't be masked; set request_body_mode to BUFFERED"))
		case m.GetEndOfStream():
			return r.withhold(errors.New("the request that was judged has a body, and this has none"))
		}
		return ok, nil
	case meta.Batch == nil || !meta.Batch.Edit:
		return ok, nil
	}
	if r.batch, err = r.server.newBatch(r.ctx, meta); err != nil {
		return r.withhold(err)
	}
	r.editing.batch, r.editing.headers = meta.Batch, headersOf(m.GetHeaders())
	switch {
	case !r.editing.buffered:
		return r.withhold(errors.New("envoy does not hand the request body over, so denied calls can't be taken out of it; set request_body_mode to BUFFERED"))
	case m.GetEndOfStream():
		return r.withhold(errors.New("the batch that was judged has a body, and the request has none"))
	}
	return ok, nil
}

// requestBody takes the denied calls out of a batch. What is left are the bytes
// that were judged, or nothing passes.
func (r *response) requestBody(body []byte) ([]*extprocv3.ProcessingResponse, error) {
	common := &extprocv3.CommonResponse{}
	if b := r.editing.batch; b != nil || r.editing.mask != nil {
		if r.editing.done {
			return r.withhold(errors.New("the request body came in parts, so it can't be edited; set request_body_mode to BUFFERED"))
		}
		var kept []byte
		var err error
		if b != nil {
			kept, err = edit(b, body)
		} else {
			kept, err = r.maskRequest(body)
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
	return one(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{
		RequestBody: &extprocv3.BodyResponse{Response: common}}}), nil
}

// digests describe the exact bytes that the caller sent (RFC 9530, and before).
var digests = []string{"digest", "repr-digest", "content-digest", "content-md5"}

// edit returns the batch without what is denied.
func edit(b *call.Batch, body []byte) ([]byte, error) {
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != b.SHA256 {
		return nil, errors.New("the request body is not the one that was judged")
	}
	var places [][2]int
	for _, c := range b.Calls {
		if c.Denied == nil {
			places = append(places, [2]int{c.Start, c.End})
		}
	}
	if len(places) == 0 {
		return nil, errors.New("no call of the batch is allowed")
	}
	kept, err := protocol.Keep(body, places)
	if err != nil {
		return nil, fmt.Errorf("take denied calls out of a batch: %w", err)
	}
	return kept, nil
}

// modes are how Envoy hands over what.
func (r *response) modes(c *extprocv3.ProtocolConfiguration) {
	r.mode = c.GetResponseBodyMode()
	r.editing.buffered = c.GetRequestBodyMode() == extprocfilterv3.ProcessingMode_BUFFERED
}
