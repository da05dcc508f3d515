package accesslog

import (
	"net"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callgate/callgate/call"
)

// finished translates one entry. It reads what
// envoy/data/accesslog/v3/accesslog.proto defines and nothing the caller can
// choose freely, such as header values.
func finished(e *datav3.HTTPAccessLogEntry, node string) *call.FinishedEvent {
	common, req, resp := e.GetCommonProperties(), e.GetRequest(), e.GetResponse()
	f := &call.FinishedEvent{
		Status:        int(resp.GetResponseCode().GetValue()),
		Details:       resp.GetResponseCodeDetails(),
		Flags:         flags(common.GetResponseFlags()),
		Upstream:      address(common.GetUpstreamRemoteAddress()),
		Cluster:       common.GetUpstreamCluster(),
		Attempts:      int(common.GetUpstreamRequestAttemptCount()),
		Duration:      common.GetDuration().AsDuration(),
		UpstreamTook:  between(common.GetTimeToFirstUpstreamTxByte(), common.GetTimeToLastUpstreamRxByte()),
		BytesIn:       int64(req.GetRequestHeadersBytes() + req.GetRequestBodyBytes()),
		BytesOut:      int64(resp.GetResponseHeadersBytes() + resp.GetResponseBodyBytes()),
		EnvoyNode:     node,
		HTTPVersion:   httpVersion(e.GetProtocolVersion()),
		TLSVersion:    tlsVersion(common.GetTlsProperties()),
		UpstreamError: common.GetUpstreamTransportFailureReason(),
	}
	if t := common.GetStartTime(); t.IsValid() {
		f.Started = t.AsTime()
	}
	if f.Duration == 0 {
		f.Duration = common.GetTimeToLastDownstreamTxByte().AsDuration()
	}
	return f
}

func between(from, to *durationpb.Duration) time.Duration {
	if from == nil || to == nil {
		return 0
	}
	return max(0, to.AsDuration()-from.AsDuration())
}

func address(a *corev3.Address) string {
	if s := a.GetSocketAddress(); s != nil {
		return net.JoinHostPort(s.GetAddress(), strconv.Itoa(int(s.GetPortValue())))
	}
	return a.GetPipe().GetPath()
}

func httpVersion(v datav3.HTTPAccessLogEntry_HTTPVersion) string {
	switch v {
	case datav3.HTTPAccessLogEntry_HTTP10:
		return "HTTP/1.0"
	case datav3.HTTPAccessLogEntry_HTTP11:
		return "HTTP/1.1"
	case datav3.HTTPAccessLogEntry_HTTP2:
		return "HTTP/2"
	case datav3.HTTPAccessLogEntry_HTTP3:
		return "HTTP/3"
	}
	return ""
}

func tlsVersion(p *datav3.TLSProperties) string {
	switch p.GetTlsVersion() {
	case datav3.TLSProperties_TLSv1:
		return "TLSv1.0"
	case datav3.TLSProperties_TLSv1_1:
		return "TLSv1.1"
	case datav3.TLSProperties_TLSv1_2:
		return "TLSv1.2"
	case datav3.TLSProperties_TLSv1_3:
		return "TLSv1.3"
	}
	return ""
}

// flags lists the set response flags by the short names that Envoy's own text
// logs use (%RESPONSE_FLAGS%).
func flags(f *datav3.ResponseFlags) []string {
	var out []string
	for _, flag := range []struct {
		set  bool
		name string
	}{
		{f.GetFailedLocalHealthcheck(), "LH"},
		{f.GetNoHealthyUpstream(), "UH"},
		{f.GetUpstreamRequestTimeout(), "UT"},
		{f.GetLocalReset(), "LR"},
		{f.GetUpstreamRemoteReset(), "UR"},
		{f.GetUpstreamConnectionFailure(), "UF"},
		{f.GetUpstreamConnectionTermination(), "UC"},
		{f.GetUpstreamOverflow(), "UO"},
		{f.GetNoRouteFound(), "NR"},
		{f.GetDelayInjected(), "DI"},
		{f.GetFaultInjected(), "FI"},
		{f.GetRateLimited(), "RL"},
		{f.GetUnauthorizedDetails() != nil, "UAEX"},
		{f.GetRateLimitServiceError(), "RLSE"},
		{f.GetDownstreamConnectionTermination(), "DC"},
		{f.GetUpstreamRetryLimitExceeded(), "URX"},
		{f.GetStreamIdleTimeout(), "SI"},
		{f.GetInvalidEnvoyRequestHeaders(), "IH"},
		{f.GetDownstreamProtocolError(), "DPE"},
		{f.GetUpstreamMaxStreamDurationReached(), "UMSDR"},
		{f.GetResponseFromCacheFilter(), "RFCF"},
		{f.GetNoFilterConfigFound(), "NFCF"},
		{f.GetDurationTimeout(), "DT"},
		{f.GetUpstreamProtocolError(), "UPE"},
		{f.GetNoClusterFound(), "NC"},
		{f.GetOverloadManager(), "OM"},
		{f.GetDnsResolutionFailure(), "DF"},
		{f.GetDownstreamRemoteReset(), "DR"},
	} {
		if flag.set {
			out = append(out, flag.name)
		}
	}
	return out
}
