package extproc

import (
	"errors"
	"net/http"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

func one(m *extprocv3.ProcessingResponse) []*extprocv3.ProcessingResponse {
	return []*extprocv3.ProcessingResponse{m}
}

// validators describe the exact bytes the function sent; they are wrong for
// masked ones (RFC 9110 §8.8, RFC 9530).
var validators = []string{"content-length", "etag", "digest", "repr-digest", "content-digest", "content-md5"}

// headersOK lets the response headers go, without what is no longer true.
func (r *response) headersOK() *extprocv3.ProcessingResponse {
	common := &extprocv3.CommonResponse{HeaderMutation: r.mutation}
	if _, same := r.flow.(*passing); !same || r.masker != nil {
		if common.HeaderMutation == nil {
			common.HeaderMutation = &extprocv3.HeaderMutation{}
		}
		common.HeaderMutation.RemoveHeaders = append(common.HeaderMutation.RemoveHeaders, validators...)
		if r.decoding != nil { // what leaves is decoded
			common.HeaderMutation.RemoveHeaders = append(common.HeaderMutation.RemoveHeaders, "content-encoding")
		}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extprocv3.HeadersResponse{Response: common}}}
}

func trailersOK(mutation *extprocv3.HeaderMutation) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{
		ResponseTrailers: &extprocv3.TrailersResponse{HeaderMutation: mutation}}}
}

// chunkSize is the most that Envoy should be sent in one message.
const chunkSize = 64 << 10

// chunks lets bytes go, in the way the body mode asks for.
func (r *response) chunks(p []byte, end bool) []*extprocv3.ProcessingResponse {
	if !r.duplex() {
		return one(bodyOK(&extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: p}}, r.mode, len(p)))
	}
	var out []*extprocv3.ProcessingResponse
	list := pieces(p)
	for i, piece := range list {
		out = append(out, bodyOK(streamed(piece, end && i == len(list)-1), r.mode, len(piece)))
	}
	return out
}

// pieces cuts bytes for messages; there is at least one.
func pieces(p []byte) [][]byte {
	var out [][]byte
	for len(p) > chunkSize {
		out, p = append(out, p[:chunkSize]), p[chunkSize:]
	}
	return append(out, p)
}

func streamed(p []byte, end bool) *extprocv3.BodyMutation {
	return &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_StreamedResponse{
		StreamedResponse: &extprocv3.StreamedBodyResponse{Body: p, EndOfStream: end}}}
}

func bodyOK(m *extprocv3.BodyMutation, mode extprocfilterv3.ProcessingMode_BodySendMode, size int) *extprocv3.ProcessingResponse {
	common := &extprocv3.CommonResponse{BodyMutation: m}
	if mode == extprocfilterv3.ProcessingMode_BUFFERED {
		// Envoy keeps content-length in this mode and refuses a body of
		// another length.
		common.HeaderMutation = &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{header("content-length", strconv.Itoa(size))}}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{
		ResponseBody: &extprocv3.BodyResponse{Response: common}}}
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// refusal is what the caller gets in place of a response that is withheld. The
// cause goes to the record and the log; it may describe the function's insides.
// What the rules say of a tool call is the caller's to know.
func refusal(meta call.Metadata, cause error) *extprocv3.ProcessingResponse {
	withheld := call.Decision{
		Outcome: call.Deny, Reason: call.ReasonResponseWithheld,
		Message: "the function's response could not be passed on safely; the audit record of this call says why",
	}
	var tool *deniedTool
	if errors.As(cause, &tool) {
		withheld = tool.decision
	}
	d := protocol.Deny(meta.Protocol, nil, []byte(meta.RPCID), meta.CallID, withheld)
	if meta.Batch != nil {
		var list []protocol.Refused
		for _, c := range meta.Batch.Calls {
			one := protocol.Refused{RPCID: []byte(c.RPCID), CallID: c.CallID, Decision: withheld}
			if c.Denied != nil {
				one.Decision = *c.Denied
			}
			list = append(list, one)
		}
		d = protocol.DenyBatch(meta.Protocol, nil, meta.CallID, withheld, list)
	}
	return immediate(d, "callgate_response_withheld")
}

// owing is what the caller of denied calls gets where the function answered the
// others with no body. What it needs of the function's headers stays.
func owing(meta call.Metadata, h call.Headers, body []byte) *extprocv3.ProcessingResponse {
	d := protocol.Denial{Status: http.StatusOK, Body: body, Headers: call.Headers{
		{Name: call.HeaderCallID, Value: meta.CallID.String()},
		{Name: "content-type", Value: "application/json"},
		{Name: "cache-control", Value: "no-store"},
	}}
	if id := h.Get("mcp-session-id"); id != "" {
		d.Headers = append(d.Headers, call.Header{Name: "mcp-session-id", Value: id})
	}
	return immediate(d, "callgate_batch_denied")
}

// immediate answers in the function's place.
func immediate(d protocol.Denial, details string) *extprocv3.ProcessingResponse {
	mutation := &extprocv3.HeaderMutation{}
	for _, h := range d.Headers {
		mutation.SetHeaders = append(mutation.SetHeaders, header(h.Name, h.Value))
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: &extprocv3.ImmediateResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(d.Status)},
			Headers: mutation, Body: d.Body, Details: details,
		}}}
}
