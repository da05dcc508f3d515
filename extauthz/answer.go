package extauthz

import (
	"net/http"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extauthz/connection"
)

// allow records the decision and lets the call go on, with the service's own
// credential in place of the caller's.
func (d *decision) allow(decided call.Decision) (*authv3.CheckResponse, error) {
	if err := d.record(decided); err != nil {
		return d.unrecorded(), nil
	}
	d.server.cfg.Metrics.decided(d, decided)
	return d.pass(decided), nil
}

// pass is the answer that lets a call go on. Its record must be on disk.
func (d *decision) pass(decided call.Decision) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{
		Headers:              []*corev3.HeaderValueOption{overwrite(call.HeaderCallID, d.call.ID.String())},
		HeadersToRemove:      d.remove(),
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{overwrite(call.HeaderCallID, d.call.ID.String())},
	}
	if d.header != "" {
		ok.Headers = append(ok.Headers, overwrite(d.header, d.value))
	}
	if decided.Approval != nil {
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, overwrite(call.HeaderApproval, decided.Approval.ID))
	}
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: d.metadata(decided),
	}
}

// callersOwn are headers that authenticate the caller, beside those that the
// identity stage reads, or that it speaks to the gateway by. They are not for the
// service.
var callersOwn = []string{"proxy-authorization", "cookie", call.HeaderBreakGlass}

// masked are headers that ask for a response in a form that can't be masked, or
// only at a cost: a part of it (RFC 9110 §14), what has changed of it (RFC 3229),
// an encoding of it. Without them it comes whole and plain.
var masked = []string{"range", "if-range", "a-im", "accept-encoding", "grpc-accept-encoding"}

// remove lists what the function must not get: the caller's credentials, and
// headers of ours that a mesh may not have stripped. Envoy removes after it
// sets, so what is set must not stand here.
func (d *decision) remove() []string {
	if d.copied == nil {
		d.copied = d.copies()
	}
	var out []string
	for _, name := range slices.Concat(d.server.cfg.Identifier.CredentialHeaders(), callersOwn, d.copied) {
		if name != d.header {
			out = append(out, name)
		}
	}
	if len(d.mask.Rules) > 0 {
		out = append(out, masked...)
		if entityTags(d.call.Request.Headers, "if-none-match") {
			out = append(out, "if-none-match") // it comes whole
		}
	}
	for _, f := range d.call.Request.Headers {
		if strings.HasPrefix(f.Name, call.HeaderPrefix) && f.Name != call.HeaderCallID {
			out = append(out, f.Name)
		}
	}
	return out
}

// refuse records the decision and denies the call. A denial that can't be
// recorded is a denial all the same.
func (d *decision) refuse(decided call.Decision) (*authv3.CheckResponse, error) {
	decided.PolicyVersion = d.active.Version
	if err := d.record(decided); err != nil {
		return d.unrecorded(), nil
	}
	d.server.cfg.Metrics.decided(d, decided)
	return d.denial(decided), nil
}

// unrecorded denies a call whose decision left no record.
func (d *decision) unrecorded() *authv3.CheckResponse {
	decided := call.Decision{Outcome: call.Deny, Reason: call.ReasonAuditUnavailable, PolicyVersion: d.active.Version,
		Message: "the call can't be recorded now, so it is not let through; try again later"}
	d.server.cfg.Metrics.decided(d, decided)
	return d.denial(decided)
}

// fault denies a call that a fault of ours ended. What failed may fail again
// here: then Envoy gets an error, which denies too.
func (d *decision) fault() (resp *authv3.CheckResponse, err error) {
	defer func() {
		if recover() != nil {
			d.server.cfg.Metrics.lost.Inc()
			resp, err = nil, status.Error(codes.Internal, "the gateway failed to decide this call")
		}
	}()
	decided := call.Decision{Outcome: call.Deny, Reason: call.ReasonInternal, Message: "the gateway failed to decide this call, so it is not let through"}
	if d.active != nil {
		decided.PolicyVersion = d.active.Version
	}
	if d.active != nil && d.members == nil { // those of a batch have their records
		if err := d.record(decided); err != nil {
			d.server.cfg.Metrics.lost.Inc()
		}
	}
	return d.denial(decided), nil
}

func (d *decision) denial(decided call.Decision) *authv3.CheckResponse {
	p := d.call.Protocol
	if p == "" && strings.HasPrefix(d.call.Request.Headers.Get("content-type"), "application/grpc") {
		p = call.GRPC // an unknown connection's caller still speaks its own protocol
	}
	if s := d.server.cfg.Sessions; s != nil && p == call.MCP && decided.Reason == call.ReasonApprovalPending && decided.Approval != nil {
		if id := d.call.Request.Headers.Get("mcp-session-id"); id != "" {
			decided.Approval.Again.Elicits = s.Elicits(d.ctx, d.call.Connection, id)
		}
	}
	return d.denialOf(decided, protocol.Deny(p, &d.call.Request, d.call.RPCID, d.call.ID, decided))
}

func (d *decision) denialOf(decided call.Decision, out protocol.Denial) *authv3.CheckResponse {
	headers := make([]*corev3.HeaderValueOption, len(out.Headers))
	for i, h := range out.Headers {
		headers[i] = overwrite(h.Name, h.Value)
	}
	code := codes.PermissionDenied
	if out.Status == http.StatusUnauthorized {
		code = codes.Unauthenticated
	}
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(code), Message: string(decided.Reason)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(out.Status)}, Headers: headers, Body: string(out.Body)}},
		DynamicMetadata: d.metadata(decided),
	}
}

// overwrite sets a header. Envoy's default for an unset append_action would
// leave a caller's value standing beside ours.
func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// metadata is call.Metadata, built by hand: this is every call's path. What is
// the same for all calls of a connection was built when the policy came.
func (d *decision) metadata(decided call.Decision) *structpb.Struct {
	f := map[string]*structpb.Value{
		"call_id":    structpb.NewStringValue(d.call.ID.String()),
		"outcome":    structpb.NewStringValue(string(decided.Outcome)),
		"connection": structpb.NewStringValue(d.call.Connection),
		"protocol":   structpb.NewStringValue(string(d.call.Protocol)),
	}
	if len(d.members) > 0 {
		f["batch"] = d.batchValue()
	}
	if decided.Outcome.Allowed() {
		fixed := d.active.fixed[d.conn]
		f["function"] = structpb.NewStringValue(clean(d.call.Function))
		f["max_response"], f["response"], f["record"] = fixed.maxResponse, fixed.response, fixed.record
		switch d.call.Protocol {
		case call.MCP: // any response may hold a list of functions
			f["caller"], f["policy"] = caller(d.call.Identity), structpb.NewStringValue(d.active.Version)
			if protocol.Elicits(&d.call.Request, d.call.Function) {
				f["elicits"] = structpb.NewBoolValue(true)
			}
		case call.OpenAI: // or calls of tools, which are judged as the caller's
			f["caller"], f["policy"] = caller(d.call.Identity), structpb.NewStringValue(d.active.Version)
			d.carry(f)
		}
		if len(d.call.RPCID) > 0 {
			f["rpc_id"] = structpb.NewStringValue(clean(string(d.call.RPCID)))
		}
		if m := d.request; m != nil {
			f["request"] = object(map[string]*structpb.Value{
				"mask": maskValue(m.Mask), "judged": structpb.NewStringValue(m.Judged), "sent": structpb.NewStringValue(m.Sent),
				"judged_path": structpb.NewStringValue(m.JudgedPath), "sent_path": structpb.NewStringValue(m.SentPath),
				"stream": structpb.NewBoolValue(m.Stream)})
		}
		if len(d.aliases) > 0 && len(d.mask.Rules) > 0 {
			names := make(map[string]*structpb.Value, len(d.aliases))
			for alias, of := range d.aliases {
				names[alias] = texts(of)
			}
			f["aliases"] = object(names)
		}
		switch {
		case len(d.members) > 0: // each has its own
		case !d.ownMask && len(d.mask.Rules) == len(d.conn.Mask.Rules):
			if fixed.mask != nil {
				f["mask"] = fixed.mask // no rule added to it
			}
		default:
			f["mask"] = maskValue(d.mask)
		}
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{call.MetadataKey: object(f)}}
}

// carry adds what rules look at of the caller and Envoy must not see. Without it
// tool calls are judged by the rest, which denies what depends on it.
func (d *decision) carry(f map[string]*structpb.Value) {
	if d.server.cfg.Carrier == nil {
		return
	}
	sealed, err := d.server.cfg.Carrier.Carry(&d.call, d.active.Version)
	if err != nil {
		d.server.cfg.Log.WarnContext(d.ctx, "a model's tool calls will be judged without the caller's claims", "call_id", d.call.ID, "error", err)
		return
	}
	f["carried"] = structpb.NewStringValue(sealed)
}

// caller is an identity without its claims.
func caller(who call.Identity) *structpb.Value {
	actors := make([]*structpb.Value, len(who.Actors))
	for i, a := range who.Actors {
		actors[i] = object(map[string]*structpb.Value{"issuer": structpb.NewStringValue(clean(a.Issuer)), "subject": structpb.NewStringValue(clean(a.Subject))})
	}
	groups := make([]string, len(who.Groups))
	for i, g := range who.Groups {
		groups[i] = clean(g)
	}
	f := map[string]*structpb.Value{
		"issuer": structpb.NewStringValue(clean(who.Issuer)), "subject": structpb.NewStringValue(clean(who.Subject)),
		"kind": structpb.NewStringValue(string(who.Kind)), "method": structpb.NewStringValue(who.Method),
		"groups": texts(groups), "actors": structpb.NewListValue(&structpb.ListValue{Values: actors}),
	}
	if who.Scope.Narrowed() { // which functions are listed depends on it, too
		f["scope"] = texts(who.Scope)
	}
	return object(f)
}

// fixedMetadata is what the metadata of all calls of a connection share. It is
// only read, by any number of answers at once.
type fixedMetadata struct {
	maxResponse, response, record, mask *structpb.Value
}

func fix(c *connection.Connection) fixedMetadata {
	f := fixedMetadata{
		maxResponse: structpb.NewNumberValue(float64(c.MaxResponse)),
		response: object(map[string]*structpb.Value{
			"look_behind": structpb.NewNumberValue(float64(c.Response.LookBehind)),
			"binary":      structpb.NewStringValue(c.Response.Binary),
			"private":     structpb.NewBoolValue(c.Response.Private),
		}),
		record: object(map[string]*structpb.Value{
			"max_body": structpb.NewNumberValue(float64(c.Record.MaxBody)),
			"response": structpb.NewStringValue(c.Record.Response),
			"headers":  texts(c.Record.Headers),

			"unrecorded":  structpb.NewBoolValue(c.Record.Unrecorded),
			"keep_bodies": structpb.NewNumberValue(float64(c.Record.KeepBodies)),
			"keep_calls":  structpb.NewNumberValue(float64(c.Record.KeepCalls)),
		}),
	}
	if len(c.Response.Texts) > 0 {
		f.response.GetStructValue().Fields["texts"] = texts(c.Response.Texts)
	}
	if len(c.Record.Originals) > 0 {
		f.record.GetStructValue().Fields["originals"] = texts(c.Record.Originals)
	}
	if len(c.Mask.Rules) > 0 {
		f.mask = maskValue(c.Mask)
	}
	return f
}

func maskValue(m call.Mask) *structpb.Value {
	rules := make([]*structpb.Value, len(m.Rules))
	for i, r := range m.Rules {
		rules[i] = object(map[string]*structpb.Value{
			"name": structpb.NewStringValue(r.Name), "paths": texts(r.Paths), "keys": texts(r.Keys),
			"detect": texts(r.Detect), "how": structpb.NewStringValue(r.How),
		})
	}
	return object(map[string]*structpb.Value{"rules": structpb.NewListValue(&structpb.ListValue{Values: rules})})
}

func object(fields map[string]*structpb.Value) *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: fields})
}

func texts(list []string) *structpb.Value {
	out := make([]*structpb.Value, len(list))
	for i, s := range list {
		out[i] = structpb.NewStringValue(s)
	}
	return structpb.NewListValue(&structpb.ListValue{Values: out})
}
