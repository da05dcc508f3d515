package extauthz

import (
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
)

// partialBody is how Envoy tells that it cut the body off. It is there, true or
// false, whenever the filter sends bodies.
const partialBody = "x-envoy-auth-partial-body"

// read takes the request out of Envoy's question: headers as a list or a map,
// the body as bytes or text, as the mesh has it.
func (d *decision) read(req *authv3.CheckRequest) {
	a := req.GetAttributes()
	h := a.GetRequest().GetHttp()
	r := &d.call.Request
	r.Method, r.Scheme, r.Authority, r.Path = h.GetMethod(), h.GetScheme(), h.GetHost(), h.GetPath()
	if list := h.GetHeaderMap().GetHeaders(); len(list) > 0 {
		r.Headers = make(call.Headers, 0, len(list))
		for _, f := range list {
			v := f.GetValue()
			if raw := f.GetRawValue(); len(raw) > 0 {
				v = string(raw)
			}
			d.header1(strings.ToLower(f.GetKey()), v)
		}
	} else {
		r.Headers = make(call.Headers, 0, len(h.GetHeaders()))
		for k, v := range h.GetHeaders() {
			d.header1(strings.ToLower(k), v)
		}
	}
	r.Body = h.GetRawBody()
	if len(r.Body) == 0 {
		r.Body = []byte(h.GetBody())
	}
	if socket := a.GetSource().GetAddress().GetSocketAddress(); socket != nil {
		r.Source = source(socket)
	}
	d.certificate = a.GetSource().GetCertificate()
	r.RequestID = r.Headers.Get("x-request-id")
	r.TraceID = traceID(r.Headers.Get("traceparent"))
}

// header1 takes one header. Our own names are never the caller's to set.
func (d *decision) header1(name, value string) {
	switch {
	case name == partialBody:
		d.sent = true
		d.partial = d.partial || strings.Contains(value, "true")
	case strings.HasPrefix(name, ":") && name != ":protocol":
	default:
		d.call.Request.Headers = append(d.call.Request.Headers, call.Header{Name: name, Value: value})
	}
}

func source(s *corev3.SocketAddress) netip.AddrPort {
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, uint16(s.GetPortValue()))
}

// traceID reads the trace id of a traceparent header (W3C Trace Context), or
// returns "".
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || strings.Trim(parts[1], "0123456789abcdef") != "" || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}
