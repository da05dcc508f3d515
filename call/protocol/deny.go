package protocol

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/callgate/callgate/call"
)

// Denial is what a caller gets instead of the function's answer.
type Denial struct {
	Status  int // HTTP; Envoy turns a gRPC caller's into 200 with trailers
	Headers call.Headers
	Body    []byte // for gRPC the status message
}

// shape is how a reason looks to callers of the protocols: its HTTP status, its
// gRPC code, and a short title.
type shape struct {
	status int
	code   codes.Code
	title  string
}

// shapes is the one table of what callers see. JSON-RPC and MCP callers get one
// error code, rpcDenied, with the reason in its data.
var shapes = map[call.Reason]shape{
	call.ReasonRule:                {http.StatusForbidden, codes.PermissionDenied, "Denied by policy"},
	call.ReasonNoRule:              {http.StatusForbidden, codes.PermissionDenied, "Not allowed by policy"},
	call.ReasonNoCredentials:       {http.StatusUnauthorized, codes.Unauthenticated, "No credentials"},
	call.ReasonInvalidToken:        {http.StatusUnauthorized, codes.Unauthenticated, "Invalid token"},
	call.ReasonExpiredToken:        {http.StatusUnauthorized, codes.Unauthenticated, "Expired token"},
	call.ReasonIdentityUnavailable: {http.StatusServiceUnavailable, codes.Unavailable, "Identity can't be checked now"},
	call.ReasonUnknownConnection:   {http.StatusNotFound, codes.NotFound, "Unknown connection"},
	call.ReasonUnknownFunction:     {http.StatusNotFound, codes.Unimplemented, "Unknown function"},
	call.ReasonMalformedRequest:    {http.StatusBadRequest, codes.InvalidArgument, "Malformed request"},
	call.ReasonBodyTooLarge:        {http.StatusRequestEntityTooLarge, codes.ResourceExhausted, "Request too large"},
	call.ReasonUpgradeRefused:      {http.StatusForbidden, codes.PermissionDenied, "Upgrades are refused"},
	call.ReasonPolicyError:         {http.StatusForbidden, codes.PermissionDenied, "Policy could not be evaluated"},
	call.ReasonApprovalUnavailable: {http.StatusServiceUnavailable, codes.Unavailable, "Approvals are not available now"},
	call.ReasonRefused:             {http.StatusForbidden, codes.PermissionDenied, "Refused by an approver"},
	call.ReasonApprovalExpired:     {http.StatusForbidden, codes.PermissionDenied, "Nobody approved in time"},
	call.ReasonCanceled:            {http.StatusForbidden, codes.Canceled, "Canceled while held"},
	call.ReasonCredentialMissing:   {http.StatusServiceUnavailable, codes.Unavailable, "The service's credential is missing"},
	call.ReasonAuditUnavailable:    {http.StatusServiceUnavailable, codes.Unavailable, "The call can't be recorded now"},
	call.ReasonResponseWithheld:    {http.StatusBadGateway, codes.Internal, "Response withheld"},
	call.ReasonInternal:            {http.StatusServiceUnavailable, codes.Unavailable, "Internal fault"},
}

// rpcDenied is the JSON-RPC error code of all denials, in the range that the
// specification leaves to servers; data.reason tells them apart.
const rpcDenied = -32003

// Deny puts a denial into the shape of the caller's protocol. req may be nil
// where the request is no longer at hand; rpcID is the caller's JSON-RPC id.
func Deny(p call.Protocol, req *call.Request, rpcID json.RawMessage, id call.ID, d call.Decision) Denial {
	s, ok := shapes[d.Reason]
	if !ok {
		s = shapes[call.ReasonInternal]
	}
	detail := d.Message
	if detail == "" {
		detail = s.title
	}
	out := Denial{Status: s.status, Headers: call.Headers{
		{Name: call.HeaderCallID, Value: id.String()},
		{Name: call.HeaderReason, Value: string(d.Reason)},
	}}
	if d.Approval != nil {
		out.Headers = append(out.Headers, call.Header{Name: call.HeaderApproval, Value: d.Approval.ID})
	}
	if s.status == http.StatusUnauthorized {
		challenge := "Bearer"
		if d.Reason != call.ReasonNoCredentials {
			challenge = `Bearer error="invalid_token"` // RFC 6750 §3.1
		}
		out.Headers = append(out.Headers, call.Header{Name: "www-authenticate", Value: challenge})
	}
	switch p {
	case call.GRPC:
		out.grpc(s, detail, id, d)
	case call.JSONRPC, call.MCP:
		out.rpc(p, req, rpcID, s, detail, id, d)
	default:
		out.problem(s, detail, id, d)
	}
	return out
}

// problem is RFC 9457.
func (out *Denial) problem(s shape, detail string, id call.ID, d call.Decision) {
	out.Headers = append(out.Headers, call.Header{Name: "content-type", Value: "application/problem+json"})
	p := struct {
		Type     string `json:"type"`
		Title    string `json:"title"`
		Status   int    `json:"status"`
		Detail   string `json:"detail"`
		Instance string `json:"instance"`
		extra
	}{"about:blank", s.title, s.status, detail, "urn:uuid:" + id.String(), extraOf(id, d)}
	out.Body = marshal(p)
}

// extra are the members that every shape carries.
type extra struct {
	CallID   string      `json:"call_id"`
	Reason   call.Reason `json:"reason"`
	Rule     string      `json:"rule,omitempty"`
	Approval string      `json:"approval,omitempty"`
}

func extraOf(id call.ID, d call.Decision) extra {
	e := extra{CallID: id.String(), Reason: d.Reason, Rule: d.Rule}
	if d.Approval != nil {
		e.Approval = d.Approval.ID
	}
	return e
}

// rpc is a JSON-RPC error. Clients show it as the call's own error only with
// HTTP 200, so a denial by policy has that; who must log in first gets 401, and
// what is no JSON-RPC exchange gets its plain status.
func (out *Denial) rpc(p call.Protocol, req *call.Request, rpcID json.RawMessage, s shape, detail string, id call.ID, d call.Decision) {
	exchange := len(rpcID) > 0 && json.Valid(rpcID)
	if !exchange {
		rpcID = json.RawMessage("null")
		if p == call.MCP && req != nil && req.Method != http.MethodPost {
			out.problem(s, detail, id, d)
			return
		}
	} else if s.status != http.StatusUnauthorized {
		out.Status = http.StatusOK
	}
	out.Headers = append(out.Headers, call.Header{Name: "content-type", Value: "application/json"})
	type rpcError struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    extra  `json:"data"`
	}
	out.Body = marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   rpcError        `json:"error"`
	}{"2.0", rpcID, rpcError{rpcDenied, detail, extraOf(id, d)}})
}

// grpc sets the status by headers: Envoy makes them the trailers of its answer
// to a gRPC caller and takes the body as grpc-message.
func (out *Denial) grpc(s shape, detail string, id call.ID, d call.Decision) {
	metadata := map[string]string{"call_id": id.String()}
	if d.Rule != "" {
		metadata["rule"] = d.Rule
	}
	if d.Approval != nil {
		metadata["approval"] = d.Approval.ID
	}
	status := &rpcstatus.Status{Code: int32(s.code), Message: detail}
	if info, err := anypb.New(&errdetails.ErrorInfo{Reason: string(d.Reason), Domain: "callgate", Metadata: metadata}); err == nil {
		status.Details = append(status.Details, info)
	}
	out.Body = []byte(detail)
	out.Headers = append(out.Headers, call.Header{Name: "grpc-status", Value: strconv.Itoa(int(s.code))})
	if b, err := proto.Marshal(status); err == nil {
		out.Headers = append(out.Headers, call.Header{Name: "grpc-status-details-bin", Value: base64.RawStdEncoding.EncodeToString(b)})
	}
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("protocol: a denial always marshals: " + err.Error())
	}
	return b
}
