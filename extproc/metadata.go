package extproc

import (
	"encoding/json"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/call"
)

// metadataOf reads what the decision left for us. ok is false where ext_authz
// left nothing, and err says what is wrong with what it left.
func metadataOf(m *corev3.Metadata) (meta call.Metadata, ok bool, err error) {
	ours, ok := m.GetFilterMetadata()[call.MetadataNamespace].GetFields()[call.MetadataKey]
	if !ok {
		return call.Metadata{}, false, nil
	}
	data, err := json.Marshal(ours.GetStructValue().AsMap())
	if err != nil {
		return call.Metadata{}, true, fmt.Errorf("read call metadata: %w", err)
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return call.Metadata{}, true, fmt.Errorf("read call metadata: %w", err)
	}
	if meta.CallID == (call.ID{}) {
		return call.Metadata{}, true, fmt.Errorf("read call metadata: no call id")
	}
	return meta, true, nil
}

// local reports whether Envoy made the response itself (a denial, no route, an
// unreachable upstream): response.code_details names how, and is
// "via_upstream" for what a function returned (Envoy's %RESPONSE_CODE_DETAILS%).
// Without that attribute the response counts as the function's.
func local(attributes map[string]*structpb.Struct) bool {
	for _, s := range attributes {
		if v, ok := s.GetFields()["response.code_details"]; ok {
			d := v.GetStringValue()
			return d != "" && d != "via_upstream"
		}
	}
	return false
}

// recordedHeaders are kept of every response; a connection may add to them.
// Credentials in any of them are hidden.
var recordedHeaders = map[string]bool{
	"content-type": true, "content-encoding": true, "content-language": true, "cache-control": true,
	"date": true, "retry-after": true, "mcp-session-id": true, "x-request-id": true, "grpc-status": true,
}

// headersOf splits what Envoy sent into pseudo headers and fields.
func headersOf(m *corev3.HeaderMap) call.Headers {
	h := make(call.Headers, 0, len(m.GetHeaders()))
	for _, f := range m.GetHeaders() {
		v := f.GetValue()
		if raw := f.GetRawValue(); len(raw) > 0 {
			v = string(raw)
		}
		h = append(h, call.Header{Name: strings.ToLower(f.GetKey()), Value: v})
	}
	return h
}

func recorded(h call.Headers, also []string) call.Headers {
	var out call.Headers
	for _, f := range h {
		keep := recordedHeaders[f.Name]
		for _, name := range also {
			keep = keep || name == f.Name
		}
		if keep && f.Name[0] != ':' {
			out = append(out, call.Header{Name: f.Name, Value: strings.ToValidUTF8(f.Value, "\uFFFD")})
		}
	}
	return out
}
