package extproc

import (
	"fmt"
	"net/url"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/callgate/callgate/call"
)

// maskStatus hides what a gRPC service says in its status: the message is text
// like any other. The details go with other binary headers. h, which is recorded,
// is changed likewise.
func (r *response) maskStatus(h call.Headers) (*extprocv3.HeaderMutation, error) {
	if r.masker == nil || r.meta.Protocol != call.GRPC {
		return nil, nil
	}
	mutation := &extprocv3.HeaderMutation{}
	for i, f := range h {
		if f.Name != "grpc-message" {
			continue
		}
		text, err := url.PathUnescape(f.Value)
		if err != nil {
			text = f.Value // clients show it as it is then
		}
		masked, found, err := r.masker.String("", strings.ToValidUTF8(text, "\uFFFD"))
		if err != nil {
			return nil, fmt.Errorf("the gRPC status can't be masked: %w", err)
		}
		if len(found) == 0 {
			continue
		}
		r.inStatus = append(r.inStatus, found...)
		h[i].Value = percentEncode(masked)
		mutation.SetHeaders = []*corev3.HeaderValueOption{header("grpc-message", h[i].Value)}
	}
	return mutation, nil
}

// percentEncode writes a grpc-message as the gRPC over HTTP/2 protocol has it:
// bytes other than printable ASCII, and the percent sign, are escaped.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
