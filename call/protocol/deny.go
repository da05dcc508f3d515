package protocol

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callgate/callgate/call"
)

// Denial is what a caller gets instead of the function's answer.
type Denial struct {
	Status  int // HTTP; Envoy turns a gRPC caller's into 200 with trailers
	Headers call.Headers
	Body    []byte // for gRPC the status message
}

// shape is how a reason looks to callers of the protocols: its HTTP status, its
// gRPC code, its JSON-RPC code and a short title.
type shape struct {
	status int
	code   codes.Code
	rpc    int
	title  string
}

// The JSON-RPC error codes. Most denials share one, in the range that the
// specification leaves to servers and where neither MCP nor its SDKs have one:
// -32000 to -32005 end the session for some clients ("client is closing").
// data.reason tells denials apart.
const (
	rpcDenied  = -32090
	rpcInvalid = -32600 // Invalid Request
	rpcUnknown = -32601 // Method not found
	// rpcElicit is MCP's URLElicitationRequired (revision 2025-11-25).
	rpcElicit = -32042
)

// shapes is the one table of what callers see. 401 asks for other credentials,
// 403 says that asking again is of no use, 503 (UNAVAILABLE) that it is. Between
// them is a call that waits for people: 403 with Retry-After, since nothing is
// wrong with the gateway, no cause of 5xx for whoever counts those, and a 2xx or
// 409 could be taken for the thing having been done.
var shapes = map[call.Reason]shape{
	call.ReasonRule:                {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Denied by policy"},
	call.ReasonNoRule:              {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Not allowed by policy"},
	call.ReasonShadow:              {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Would be denied by policy"},
	call.ReasonNoCredentials:       {http.StatusUnauthorized, codes.Unauthenticated, rpcDenied, "No credentials"},
	call.ReasonInvalidToken:        {http.StatusUnauthorized, codes.Unauthenticated, rpcDenied, "Invalid token"},
	call.ReasonExpiredToken:        {http.StatusUnauthorized, codes.Unauthenticated, rpcDenied, "Expired token"},
	call.ReasonRevokedToken:        {http.StatusUnauthorized, codes.Unauthenticated, rpcDenied, "Revoked token"},
	call.ReasonInsufficientScope:   {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Not within the token's scope"},
	call.ReasonIdentityUnavailable: {http.StatusServiceUnavailable, codes.Unavailable, rpcDenied, "Identity can't be checked now"},
	call.ReasonUnknownConnection:   {http.StatusNotFound, codes.NotFound, rpcDenied, "Unknown connection"},
	call.ReasonUnknownFunction:     {http.StatusNotFound, codes.Unimplemented, rpcUnknown, "Unknown function"},
	call.ReasonMalformedRequest:    {http.StatusBadRequest, codes.InvalidArgument, rpcInvalid, "Malformed request"},
	call.ReasonBodyTooLarge:        {http.StatusRequestEntityTooLarge, codes.ResourceExhausted, rpcDenied, "Request too large"},
	call.ReasonUpgradeRefused:      {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Upgrades are refused"},
	call.ReasonPolicyError:         {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Policy could not be evaluated"},
	call.ReasonPolicyUnavailable:   {http.StatusServiceUnavailable, codes.Unavailable, rpcDenied, "The policy can't be told now"},
	call.ReasonApprovalUnavailable: {http.StatusServiceUnavailable, codes.Unavailable, rpcDenied, "Approvals are not available now"},
	call.ReasonApprovalPending:     {http.StatusForbidden, codes.FailedPrecondition, rpcDenied, "Waits for approval"},
	call.ReasonApprovalLimit:       {http.StatusTooManyRequests, codes.ResourceExhausted, rpcDenied, "Too many calls wait for approval"},
	call.ReasonRefused:             {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Refused by an approver"},
	call.ReasonBreakGlassRefused:   {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Glass can't be broken"},
	call.ReasonApprovalExpired:     {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Nobody approved in time"},
	call.ReasonCanceled:            {http.StatusForbidden, codes.Canceled, rpcDenied, "Canceled while held"},
	call.ReasonBatchHold:           {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Needs approval, so it can't stand in a batch"},
	call.ReasonBatchWhole:          {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "Another call of the batch is denied"},
	call.ReasonRequestWhole:        {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "The function must not be sent this request"},
	call.ReasonCredentialMissing:   {http.StatusServiceUnavailable, codes.Unavailable, rpcDenied, "The service's credential is missing"},
	call.ReasonAuditUnavailable:    {http.StatusServiceUnavailable, codes.Unavailable, rpcDenied, "The call can't be recorded now"},
	call.ReasonResponseWithheld:    {http.StatusBadGateway, codes.Internal, rpcDenied, "Response withheld"},
	call.ReasonToolUnknown:         {http.StatusNotFound, codes.NotFound, rpcDenied, "Unknown tool"},
	call.ReasonToolChanged:         {http.StatusForbidden, codes.PermissionDenied, rpcDenied, "The tool was changed"},
	call.ReasonInternal:            {http.StatusInternalServerError, codes.Internal, rpcDenied, "Internal fault"},
}

// maxDetail bounds what a denial says, in bytes: to a gRPC caller it travels in
// header fields, twice.
const maxDetail = 1024

// Bounded is a message as far as a denial says it.
func Bounded(s string) string { return bounded(s) }

func bounded(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}

// challenges say what is wrong with the caller's credentials (RFC 6750 §3).
var challenges = map[call.Reason]string{
	call.ReasonNoCredentials: `Bearer realm="callgate"`,
	call.ReasonInvalidToken:  `Bearer realm="callgate", error="invalid_token", error_description="the token is not valid here"`,
	call.ReasonRevokedToken:  `Bearer realm="callgate", error="invalid_token", error_description="the token was revoked"`,
	call.ReasonExpiredToken:  `Bearer realm="callgate", error="invalid_token", error_description="the token has expired"`,

	call.ReasonInsufficientScope: `Bearer realm="callgate", error="insufficient_scope", error_description="the token is narrowed to other functions"`,
}

// Deny puts a denial into the shape of the caller's protocol. req may be nil
// where the request is no longer at hand; rpcID is the caller's JSON-RPC id.
func Deny(p call.Protocol, req *call.Request, rpcID json.RawMessage, id call.ID, d call.Decision) Denial {
	s := shapeOf(d)
	detail := detailOf(s, d)
	out := newDenial(s, id, d)
	if d.Approval != nil {
		out.Headers = append(out.Headers, call.Header{Name: call.HeaderApproval, Value: d.Approval.ID})
		if u := d.Approval.Again.StatusURL; u != "" { // RFC 8631
			out.Headers = append(out.Headers, call.Header{Name: "link", Value: "<" + u + `>; rel="status"`})
		}
	}
	if after := retryAfter(d); after > 0 {
		out.Headers = append(out.Headers, call.Header{Name: "retry-after", Value: strconv.Itoa(after)})
	}
	if c, ok := challenges[d.Reason]; ok {
		out.Headers = append(out.Headers, call.Header{Name: "www-authenticate", Value: c})
	}
	switch p {
	case call.GRPC:
		out.grpc(s, detail, id, d)
	case call.JSONRPC, call.MCP:
		out.rpc(p, req, rpcID, s, detail, id, d)
	case call.GraphQL:
		out.graphql(s, detail, id, d)
	case call.OpenAI:
		out.openai(s, detail, id, d)
	default:
		out.problem(s, detail, id, d)
	}
	return out
}

func shapeOf(d call.Decision) shape {
	if s, ok := shapes[d.Reason]; ok {
		return s
	}
	return shapes[call.ReasonInternal]
}

func detailOf(s shape, d call.Decision) string {
	if detail := bounded(d.Message); detail != "" {
		return detail
	}
	return s.title
}

func newDenial(s shape, id call.ID, d call.Decision) Denial {
	return Denial{Status: s.status, Headers: call.Headers{
		{Name: call.HeaderCallID, Value: id.String()},
		{Name: call.HeaderReason, Value: string(d.Reason)},
		// Some of the statuses may be kept by caches that are told nothing.
		{Name: "cache-control", Value: "no-store"},
	}}
}

// Refused is one call of a batch that is denied.
type Refused struct {
	RPCID    json.RawMessage // see [Element.Answer]; nil: nobody waits for an answer
	CallID   call.ID
	Decision call.Decision
}

// DenyBatch answers a batch of which no call runs: with a list of one JSON-RPC
// error for each that is owed an answer. As with a single call the status is 200
// where some caller's id can be answered, since clients look at the errors only
// then. Where no call is owed an answer, it is what one call alone would get for
// d. id is that of the first.
func DenyBatch(p call.Protocol, req *call.Request, id call.ID, d call.Decision, list []Refused) Denial {
	out := newDenial(shapeOf(d), id, d)
	var errs []json.RawMessage
	for _, r := range list {
		if len(r.RPCID) == 0 {
			continue
		}
		if string(r.RPCID) != "null" {
			out.Status = http.StatusOK
		}
		errs = append(errs, RPCError(r.RPCID, r.CallID, r.Decision))
	}
	if errs == nil {
		return Deny(p, req, nil, id, d)
	}
	out.Headers = append(out.Headers, call.Header{Name: "content-type", Value: "application/json"})
	out.Body = marshal(errs)
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
	}{"urn:callgate:denied:" + string(d.Reason), s.title, s.status, detail, "urn:uuid:" + id.String(), extraOf(id, d)}
	out.Body = marshal(p)
}

// extra are the members that every shape carries.
type extra struct {
	CallID   string      `json:"call_id"`
	Reason   call.Reason `json:"reason"`
	Rule     string      `json:"rule,omitempty"`
	Approval string      `json:"approval,omitempty"`
	// What follows is for a caller that comes again.
	RetryAfter int        `json:"retry_after,omitempty"` // seconds
	StatusURL  string     `json:"status_url,omitempty"`
	Expires    *time.Time `json:"expires,omitempty"` // until then people can decide
}

func extraOf(id call.ID, d call.Decision) extra {
	e := extra{CallID: id.String(), Reason: d.Reason, Rule: bounded(d.Rule), RetryAfter: retryAfter(d)}
	if d.Approval != nil {
		e.Approval = d.Approval.ID
		if again := d.Approval.Again; again.After > 0 {
			expires := d.Approval.Expires.UTC().Truncate(time.Second)
			e.StatusURL, e.Expires = again.StatusURL, &expires
		}
	}
	return e
}

// When a caller may come again that need not wait for a person, in seconds: most
// outages are restarts, and a person decides no faster than in some minutes.
const (
	afterOutage = 5
	afterLimit  = 30
)

// retryAfter is in how many seconds the same call may get another answer; 0: it
// won't.
func retryAfter(d call.Decision) int {
	if d.Approval != nil && d.Approval.Again.After > 0 {
		// Rounded up: a caller that comes early comes in vain.
		return int((d.Approval.Again.After + time.Second - 1) / time.Second)
	}
	switch shapeOf(d).status {
	case http.StatusServiceUnavailable:
		return afterOutage
	case http.StatusTooManyRequests:
		return afterLimit
	}
	return 0
}

// rpc is a JSON-RPC error. Clients show it as the call's own error only with
// HTTP 200, so a denied request has that; who must log in first gets 401, and
// what is no request with an id (a notification, a stream, what could not be
// read) gets its plain status.
func (out *Denial) rpc(p call.Protocol, req *call.Request, rpcID json.RawMessage, s shape, detail string, id call.ID, d call.Decision) {
	exchange := len(rpcID) > 0 && rpcID[0] != 'n' && json.Valid(rpcID) && utf8.Valid(rpcID)
	if !exchange {
		rpcID = json.RawMessage("null")
		if p == call.MCP && req != nil && req.Method != http.MethodPost {
			if req.Method == http.MethodGet && s.status == http.StatusForbidden {
				// "No event stream here" (MCP, streamable HTTP): clients
				// then do without one, where 403 would end their session.
				s.status, out.Status = http.StatusMethodNotAllowed, http.StatusMethodNotAllowed
				out.Headers = append(out.Headers, call.Header{Name: "allow", Value: "POST, DELETE"})
			}
			out.problem(s, detail, id, d)
			return
		}
	} else if s.status != http.StatusUnauthorized {
		out.Status = http.StatusOK
	}
	out.Headers = append(out.Headers, call.Header{Name: "content-type", Value: "application/json"})
	data := rpcData{extra: extraOf(id, d)}
	if e, ok := elicit(p, req, detail, d); ok {
		s.rpc, data.Elicitations = rpcElicit, []elicitation{e}
	}
	out.Body = rpcError(rpcID, s.rpc, detail, data)
}

// rpcData is what a JSON-RPC error says beside code and message.
type rpcData struct {
	extra
	Elicitations []elicitation `json:"elicitations,omitempty"`
}

func rpcError(rpcID json.RawMessage, code int, detail string, data rpcData) []byte {
	type failure struct {
		Code    int     `json:"code"`
		Message string  `json:"message"`
		Data    rpcData `json:"data"`
	}
	return marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   failure         `json:"error"`
	}{"2.0", rpcID, failure{code, detail, data}})
}

// grpc sets the status by headers: Envoy makes them the trailers of its answer
// to a gRPC caller and takes the body as grpc-message.
func (out *Denial) grpc(s shape, detail string, id call.ID, d call.Decision) {
	metadata := map[string]string{"call_id": id.String()}
	e := extraOf(id, d)
	if e.Rule != "" {
		metadata["rule"] = e.Rule
	}
	if e.Approval != "" {
		metadata["approval"] = e.Approval
	}
	if e.StatusURL != "" {
		metadata["status_url"] = e.StatusURL
	}
	if e.Expires != nil {
		metadata["expires"] = e.Expires.Format(time.RFC3339)
	}
	status := &rpcstatus.Status{Code: int32(s.code), Message: detail}
	if info, err := anypb.New(&errdetails.ErrorInfo{Reason: string(d.Reason), Domain: "callgate", Metadata: metadata}); err == nil {
		status.Details = append(status.Details, info)
	}
	if e.RetryAfter > 0 {
		retry, err := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(e.RetryAfter) * time.Second)})
		if err == nil {
			status.Details = append(status.Details, retry)
		}
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
