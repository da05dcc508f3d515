package extauthz

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/extauthz/identity"
)

func TestAllow(t *testing.T) {
	r := newRig(t)
	a := r.check(t, request(add("x-callgate-call-id", "spoofed"), add("X-Callgate-Reason", "rule"), add("x-callgate-approval", "a")))
	ok := a.GetOkResponse()
	if a.Status.GetCode() != 0 || ok == nil {
		t.Fatalf("%v", a.CheckResponse)
	}
	id := a.meta.CallID.String()
	headers := set(t, ok.Headers)
	if want := map[string]string{"authorization": "Bearer " + plantedCredential, call.HeaderCallID: id}; !reflect.DeepEqual(headers, want) {
		t.Errorf("sets %v, want %v", headers, want)
	}
	if got := set(t, ok.ResponseHeadersToAdd); got[call.HeaderCallID] != id || len(got) != 1 {
		t.Errorf("response headers %v", got)
	}
	for _, name := range []string{"cookie", "proxy-authorization", call.HeaderBreakGlass, "x-callgate-reason", "x-callgate-approval"} {
		if !slices.Contains(ok.HeadersToRemove, name) {
			t.Errorf("%s is not removed", name)
		}
	}
	// A response under a mask comes whole and plain.
	for _, name := range []string{"range", "if-range", "accept-encoding", "grpc-accept-encoding"} {
		if !slices.Contains(ok.HeadersToRemove, name) {
			t.Errorf("%s is not removed", name)
		}
	}
	for name := range headers {
		if slices.Contains(ok.HeadersToRemove, name) {
			t.Errorf("%s is both set and removed: Envoy removes last", name)
		}
	}
	want := call.Metadata{CallID: a.meta.CallID, Outcome: call.Allow, Connection: "crm", Protocol: call.HTTP, Function: "refunds.create",
		Mask: r.conns["crm"].Mask, MaxResponse: 8192, Record: r.conns["crm"].Record}
	if !reflect.DeepEqual(a.meta, want) {
		t.Errorf("metadata %+v\nwant %+v", a.meta, want)
	}
	e := a.event
	if e == nil {
		t.Fatal("not recorded")
	}
	if e.Identity.Subject != "ann" || e.Function != "refunds.create" || e.Connection != "crm" || e.Source != "10.0.0.7:999" ||
		e.TraceID != "0af7651916cd43dd8448eb211c80319c" || e.RequestID != "r-1" || e.Session != "s-1" || string(e.Body.Head) != refundBody {
		t.Errorf("event %+v", e)
	}
	if d := e.Decision; d.Outcome != call.Allow || d.Rule != "yes" || d.PolicyVersion != "v1" || !slices.Equal(d.Shadow, []string{"later"}) {
		t.Errorf("decision %+v", d)
	}
	if !slices.Equal(e.Expect, []call.EventKind{call.Answered, call.Finished}) {
		t.Errorf("expects %v", e.Expect)
	}
	if e.Headers.Get("x-team") != "a" || len(e.Headers.Values("authorization")) > 0 || len(e.Headers.Values("cookie")) > 0 {
		t.Errorf("headers %v", e.Headers)
	}
	a.hides(t)
}

func TestAllowWithoutCredential(t *testing.T) {
	for _, c := range []connection.Credential{nil, secret{}} {
		r := newRig(t)
		r.conns["crm"].Credential = c
		ok := r.check(t, request()).GetOkResponse()
		if got := set(t, ok.GetHeaders()); len(got) != 1 {
			t.Errorf("sets %v", got)
		}
		for _, name := range callersOwn {
			if !slices.Contains(ok.HeadersToRemove, name) {
				t.Errorf("the caller's %s is passed on", name)
			}
		}
	}
}

func TestEveryFormOfRequestIsReadAlike(t *testing.T) {
	r := newRig(t)
	plain := func(req *authv3.CheckRequest) {
		h := httpOf(req)
		h.Headers = map[string]string{}
		for _, f := range h.HeaderMap.Headers {
			h.Headers[strings.ToUpper(f.Key)] = string(f.RawValue)
		}
		h.HeaderMap = nil
	}
	values := func(req *authv3.CheckRequest) {
		for _, f := range httpOf(req).HeaderMap.Headers {
			f.Value, f.RawValue = string(f.RawValue), nil
		}
	}
	textBody := func(req *authv3.CheckRequest) { httpOf(req).Body, httpOf(req).RawBody = refundBody, nil }
	chunked := func(req *authv3.CheckRequest) { drop("content-length")(req) }
	matched := func(req *authv3.CheckRequest) { delete(req.Attributes.ContextExtensions, "connection") }
	for name, change := range map[string][]func(*authv3.CheckRequest){
		"as it is": nil, "headers as a map": {plain}, "headers as text": {values}, "body as text": {textBody}, "map and text": {plain, textBody},
		"no length": {chunked}, "found by its path": {matched},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.check(t, request(change...))
			if a.GetOkResponse() == nil || string(a.event.Body.Head) != refundBody || a.event.Headers.Get("x-team") != "a" || a.event.Function != "refunds.create" {
				t.Errorf("%v, %+v", a.CheckResponse, a.event)
			}
		})
	}
}

func TestDenials(t *testing.T) {
	method := func(m string) func(*authv3.CheckRequest) {
		return func(req *authv3.CheckRequest) { httpOf(req).Method = m }
	}
	unsent := func(req *authv3.CheckRequest) {
		drop("x-envoy-auth-partial-body")(req)
		drop("content-length")(req)
		httpOf(req).RawBody = nil
	}
	partial := func(req *authv3.CheckRequest) {
		drop("x-envoy-auth-partial-body")(req)
		add("x-envoy-auth-partial-body", "true")(req)
	}
	elsewhere := func(path string) func(*authv3.CheckRequest) {
		return func(req *authv3.CheckRequest) {
			delete(req.Attributes.ContextExtensions, "connection")
			httpOf(req).Path = path
		}
	}
	withLength := func(n string) func(*authv3.CheckRequest) {
		return func(req *authv3.CheckRequest) { drop("content-length")(req); add("content-length", n)(req) }
	}
	identifyAs := func(err error) func(*rig) {
		return func(r *rig) {
			r.identify = func(context.Context, call.Headers) (call.Identity, error) { return call.Identity{}, err }
		}
	}
	ruling := func(g call.Ruling) func(*rig) {
		return func(r *rig) { r.decide = func(context.Context, *call.Call) call.Ruling { return g } }
	}
	for name, c := range map[string]struct {
		change []func(*authv3.CheckRequest)
		rig    func(*rig)
		status int32
		reason call.Reason
	}{
		"CONNECT":                  {[]func(*authv3.CheckRequest){method("CONNECT")}, nil, 403, call.ReasonUpgradeRefused},
		"extended CONNECT":         {[]func(*authv3.CheckRequest){add(":protocol", "websocket")}, nil, 403, call.ReasonUpgradeRefused},
		"upgrade":                  {[]func(*authv3.CheckRequest){add("Upgrade", "websocket")}, nil, 403, call.ReasonUpgradeRefused},
		"h2c":                      {[]func(*authv3.CheckRequest){add("http2-settings", "")}, nil, 403, call.ReasonUpgradeRefused},
		"no token":                 {nil, identifyAs(&identity.Error{Reason: call.ReasonNoCredentials, Message: "none"}), 401, call.ReasonNoCredentials},
		"bad token":                {nil, identifyAs(fmt.Errorf("wrapped: %w", &identity.Error{Reason: call.ReasonInvalidToken, Message: "bad"})), 401, call.ReasonInvalidToken},
		"expired token":            {nil, identifyAs(&identity.Error{Reason: call.ReasonExpiredToken, Message: "old"}), 401, call.ReasonExpiredToken},
		"identity away":            {nil, identifyAs(errors.New("stranger error with " + plantedToken)), 503, call.ReasonIdentityUnavailable},
		"unknown by name":          {[]func(*authv3.CheckRequest){to("nope", "/crm/refunds")}, nil, 404, call.ReasonUnknownConnection},
		"unknown by an empty name": {[]func(*authv3.CheckRequest){to("", "/crm/refunds")}, nil, 404, call.ReasonUnknownConnection},
		"unknown by path":          {[]func(*authv3.CheckRequest){elsewhere("/crmx")}, nil, 404, call.ReasonUnknownConnection},
		"partial body":             {[]func(*authv3.CheckRequest){partial}, nil, 413, call.ReasonBodyTooLarge},
		"partial and not":          {[]func(*authv3.CheckRequest){add("x-envoy-auth-partial-body", "true")}, nil, 413, call.ReasonBodyTooLarge},
		"body over max_body":       {[]func(*authv3.CheckRequest){body(`{"a":"` + strings.Repeat("x", 4096) + `"}`)}, nil, 413, call.ReasonBodyTooLarge},
		"length over max_body":     {[]func(*authv3.CheckRequest){withLength("5000")}, nil, 413, call.ReasonBodyTooLarge},
		"length too long":          {[]func(*authv3.CheckRequest){withLength("4000")}, nil, 400, call.ReasonMalformedRequest},
		"length too short":         {[]func(*authv3.CheckRequest){withLength("1")}, nil, 400, call.ReasonMalformedRequest},
		"length no number":         {[]func(*authv3.CheckRequest){withLength("0x10")}, nil, 400, call.ReasonMalformedRequest},
		"length with a sign":       {[]func(*authv3.CheckRequest){withLength("+25")}, nil, 400, call.ReasonMalformedRequest},
		"length empty":             {[]func(*authv3.CheckRequest){withLength("")}, nil, 400, call.ReasonMalformedRequest},
		"length negative":          {[]func(*authv3.CheckRequest){withLength("-1")}, nil, 400, call.ReasonMalformedRequest},
		"two lengths":              {[]func(*authv3.CheckRequest){add("content-length", "3")}, nil, 400, call.ReasonMalformedRequest},
		"body not sent to us":      {[]func(*authv3.CheckRequest){unsent}, nil, 400, call.ReasonMalformedRequest},
		"GET with a hidden body":   {[]func(*authv3.CheckRequest){unsent, method("GET"), add("transfer-encoding", "chunked")}, nil, 400, call.ReasonMalformedRequest},
		"not JSON":                 {[]func(*authv3.CheckRequest){body("{")}, nil, 400, call.ReasonMalformedRequest},
		"unknown function":         {[]func(*authv3.CheckRequest){to("crm", "/crm/other")}, nil, 404, call.ReasonUnknownFunction},
		"no rule":                  {nil, ruling(call.Ruling{Action: call.ActionDeny, Reason: call.ReasonNoRule}), 403, call.ReasonNoRule},
		"a rule":                   {nil, ruling(call.Ruling{Action: call.ActionDeny, Rule: "no", Reason: call.ReasonRule, Message: "no"}), 403, call.ReasonRule},
		"policy error":             {nil, ruling(call.Ruling{Action: call.ActionDeny, Reason: call.ReasonPolicyError}), 403, call.ReasonPolicyError},
		"an empty ruling":          {nil, ruling(call.Ruling{Reason: call.ReasonPolicyError}), 403, call.ReasonPolicyError},
		"no credential": {nil, func(r *rig) {
			r.conns["crm"].Credential = secret{name: "authorization", err: errors.New("file is gone")}
		}, 503, call.ReasonCredentialMissing},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if c.rig != nil {
				c.rig(r)
			}
			a := r.check(t, request(c.change...))
			a.denied(t, c.status, c.reason)
			if a.event == nil {
				t.Fatal("not recorded")
			}
			if a.event.Decision.PolicyVersion != "v1" {
				t.Errorf("policy %q", a.event.Decision.PolicyVersion)
			}
			if !slices.Equal(a.event.Expect, []call.EventKind{call.Finished}) {
				t.Errorf("a denied call will be answered by nobody, but expects %v", a.event.Expect)
			}
			if s := r.log.String(); strings.Contains(s, plantedToken) || strings.Contains(s, plantedCredential) {
				t.Errorf("the log quotes a secret: %s", s)
			}
		})
	}
}

// An unknown route's caller learns nothing about connections before it has said
// who it is.
func TestStrangersAreAskedWhoTheyAreFirst(t *testing.T) {
	r := newRig(t)
	r.identify = func(context.Context, call.Headers) (call.Identity, error) {
		return call.Identity{}, &identity.Error{Reason: call.ReasonNoCredentials, Message: "none"}
	}
	r.check(t, request(to("nope", "/x"))).denied(t, 401, call.ReasonNoCredentials)
}

func TestDenialsSpeakTheCallersProtocol(t *testing.T) {
	r := newRig(t)
	r.decide = func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionDeny, Rule: "no", Reason: call.ReasonRule, Message: "no"}
	}
	const rpc = `{"jsonrpc":"2.0","id":"a-7","method":"tools/call","params":{"name":"search","arguments":{}}}`
	for _, c := range []struct{ conn, path string }{{"tool", "/mcp"}, {"rpc", "/rpc"}} {
		a := r.check(t, request(to(c.conn, c.path), body(rpc), add("accept", "application/json, text/event-stream")))
		a.denied(t, 200, call.ReasonRule)
		if !strings.Contains(a.GetDeniedResponse().Body, `"id":"a-7"`) || a.event.RPCID != `"a-7"` {
			t.Errorf("%s: %s %s", c.conn, a.GetDeniedResponse().Body, a.event.RPCID)
		}
	}
	a := r.check(t, request(to("", "/a.B/C"), drop("content-type"), add("content-type", "application/grpc")))
	if h := set(t, a.GetDeniedResponse().GetHeaders()); h["grpc-status"] != fmt.Sprint(int(codes.NotFound)) {
		t.Errorf("%v", h)
	}
}

func TestHold(t *testing.T) {
	r := newRig(t)
	// Room behind the rules, where a careless append would write.
	mask := append(make([]call.MaskRule, 0, 4), r.conns["crm"].Mask.Rules...)
	r.conns["crm"].Mask.Rules = mask
	r.decide = func(context.Context, *call.Call) call.Ruling {
		return call.Ruling{Action: call.ActionHold, Rule: "ask", Shadow: []string{"later"}, Mask: call.Mask{Rules: []call.MaskRule{{Name: "ruled"}}}}
	}
	for _, c := range []struct {
		outcome call.Outcome
		reason  call.Reason
		status  int32 // 0: allowed
	}{
		{call.HoldAllow, call.ReasonApproved, 0},
		{call.HoldDeny, call.ReasonRefused, 403},
		{call.HoldExpired, call.ReasonApprovalExpired, 403},
		{call.HoldDeny, call.ReasonCanceled, 403},
		{call.Deny, call.ReasonApprovalUnavailable, 503},
		{"", call.ReasonInternal, 500},
	} {
		t.Run(string(c.reason), func(t *testing.T) {
			r.hold = func(_ context.Context, k *call.Call, g call.Ruling) call.Decision {
				if k.Function != "refunds.create" || g.Rule != "ask" || k.Identity.Subject != "ann" {
					t.Errorf("asked about %+v under %+v", k, g)
				}
				return call.Decision{Outcome: c.outcome, Rule: g.Rule, Reason: c.reason, Approval: &call.Approval{ID: "ap-1", HeldFor: time.Hour}}
			}
			a := r.check(t, request())
			if a.event == nil || a.event.Decision.Approval == nil || a.event.Decision.PolicyVersion != "v1" || a.event.Took < 0 || a.event.Decision.Outcome != c.outcome {
				t.Fatalf("event %+v", a.event)
			}
			if c.status != 0 {
				a.denied(t, c.status, c.reason)
				return
			}
			ok := a.GetOkResponse()
			if ok == nil || set(t, ok.ResponseHeadersToAdd)[call.HeaderApproval] != "ap-1" {
				t.Fatalf("%v", a.CheckResponse)
			}
			if len(a.meta.Mask.Rules) != 2 || a.meta.Mask.Rules[1].Name != "ruled" || a.meta.Outcome != call.HoldAllow {
				t.Errorf("metadata %+v", a.meta)
			}
			// What one call's ruling masks is not added to the connection.
			if mask[:2][1].Name != "" {
				t.Error("the connection's own mask grew")
			}
			a.hides(t)
		})
	}
}

func TestExpect(t *testing.T) {
	for _, c := range []struct {
		legs, response string
		want           []call.EventKind
	}{
		{"answered,finished", call.RecordAsync, []call.EventKind{call.Answered, call.Finished}},
		{"answered,finished", call.RecordOff, []call.EventKind{call.Finished}},
		{"answered", call.RecordDurable, []call.EventKind{call.Answered}},
		{"", call.RecordDurable, nil},
		{"decided,x,finished", call.RecordDurable, []call.EventKind{call.Finished}},
	} {
		r := newRig(t)
		r.conns["crm"].Record.Response = c.response
		a := r.check(t, request(func(req *authv3.CheckRequest) { req.Attributes.ContextExtensions["legs"] = c.legs }))
		if !slices.Equal(a.event.Expect, c.want) {
			t.Errorf("%q, %s: %v, want %v", c.legs, c.response, a.event.Expect, c.want)
		}
	}
}

func TestNoPolicyYet(t *testing.T) {
	r := newRig(t)
	r.versions.Store(nil)
	if resp, err := r.Check(t.Context(), request()); status.Code(err) != codes.Unavailable || resp != nil {
		t.Errorf("%v, %v", resp, err)
	}
	if n := len(r.recorder.all()); n != 0 {
		t.Errorf("%d events", n)
	}
}

func TestRequestsWithoutMuchInThem(t *testing.T) {
	r := newRig(t)
	for _, req := range []*authv3.CheckRequest{nil, {}, {Attributes: &authv3.AttributeContext{}},
		{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{nil}}}}}}} {
		r.check(t, req).denied(t, 404, call.ReasonUnknownConnection)
	}
}

// A credential in the query is hidden wherever the query's values go.
func TestCredentialsInTheQuery(t *testing.T) {
	r := newRig(t)
	get := func(req *authv3.CheckRequest) { httpOf(req).Method = "GET" }
	const planted = "another-credential-than-the-callers"
	a := r.check(t, request(to("crm", "/crm/refunds?n=1&acce%73s_token="+planted), body(""), get))
	if a.GetOkResponse() == nil {
		t.Fatalf("%v", a.CheckResponse)
	}
	sum := r.cfg.Redact.Secret(planted)
	if got := string(a.event.ArgsJSON); got != `{"access_token":"`+sum+`","n":"1"}` {
		t.Errorf("arguments %s", got)
	}
	if a.event.Path != "/crm/refunds?n=1&acce%73s_token="+sum {
		t.Errorf("path %s", a.event.Path)
	}
	a.hides(t)
	a = r.check(t, request(func(req *authv3.CheckRequest) { httpOf(req).Host = "u:" + plantedToken + "@gate.test" }))
	if a.event.Authority != r.cfg.Redact.Secret("u:"+plantedToken)+"@gate.test" {
		t.Errorf("authority %s", a.event.Authority)
	}
	a.hides(t)
	// An argument of the body's that has such a name is the function's own.
	a = r.check(t, request(body(`{"code":"x"}`)))
	if got := string(a.event.ArgsJSON); got != `{"code":"x"}` {
		t.Errorf("arguments %s", got)
	}
}

// An operator may record any header: a credential in it is matched, not read.
func TestRecordedCredentials(t *testing.T) {
	r := newRig(t)
	r.conns["crm"].Record.Headers = []string{"authorization", "cookie", "x-team", "x-api-key", "proxy-authorization"}
	r.activate(t)
	a := r.check(t, request(add("x-api-key", plantedToken), add("X-API-Key", "x "+plantedToken), add("x-team", "Bearer "+plantedToken),
		add("user-agent", "curl Bearer "+plantedToken), add("cookie", "a="+plantedToken+"; b=1")))
	if a.GetOkResponse() == nil {
		t.Fatalf("%v", a.CheckResponse)
	}
	a.hides(t)
	sum := r.cfg.Redact.Secret(plantedToken)
	for name, want := range map[string]string{"authorization": "Bearer " + sum, "x-api-key": sum, "cookie": "sid=" + sum, "proxy-authorization": "Basic " + sum} {
		if got := a.event.Headers.Get(name); got != want {
			t.Errorf("%s is recorded as %q, want %q", name, got, want)
		}
	}
	if got := a.event.Headers.Values("x-team"); len(got) != 2 || got[0] != "a" || got[1] != "Bearer "+sum {
		t.Errorf("x-team is recorded as %q", got)
	}
}

func TestTraceID(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for in, want := range map[string]string{
		"00-" + id + "-b7ad6b7169203331-01": id, "": "", "00-" + id: "", "00-" + strings.ToUpper(id) + "-b7-01": "",
		"00-" + strings.Repeat("0", 32) + "-b7-01": "", "0-" + id + "-b7-01": "",
	} {
		if got := traceID(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// anything is a parser that takes every request.
type anything struct{}

func (anything) Parse(*call.Request) (protocol.Invocation, error) {
	return protocol.Invocation{Function: "refunds.create"}, nil
}

// Parsers look at lengths too; this stage must not depend on them.
func TestTheBodyIsWholeWhateverTheParserSays(t *testing.T) {
	r := newRig(t)
	r.conns["crm"].Parser = anything{}
	if a := r.check(t, request()); a.GetOkResponse() == nil {
		t.Fatalf("%v", a.CheckResponse)
	}
	for name, lengths := range map[string][]string{"short": {"1"}, "long": {"4000"}, "two": {fmt.Sprint(len(refundBody)), fmt.Sprint(len(refundBody))}, "signed": {fmt.Sprintf("+%d", len(refundBody))}} {
		t.Run(name, func(t *testing.T) {
			req := request(drop("content-length"))
			for _, n := range lengths {
				add("content-length", n)(req)
			}
			r.check(t, req).denied(t, 400, call.ReasonMalformedRequest)
		})
	}
	hidden := request(drop("content-length"), drop("x-envoy-auth-partial-body"), add("transfer-encoding", "chunked"), func(req *authv3.CheckRequest) {
		httpOf(req).Method, httpOf(req).RawBody = "GET", nil
	})
	r.check(t, hidden).denied(t, 400, call.ReasonMalformedRequest)
}

// How a mask applies to a caller is settled when its call is decided, and recorded.
func TestMaskForCaller(t *testing.T) {
	broke := call.Decision{Outcome: call.HoldAllow, Reason: call.ReasonBreakGlass, Approval: &call.Approval{ID: "apr_1"}}
	approved := call.Decision{Outcome: call.HoldAllow, Reason: call.ReasonApproved, Approval: &call.Approval{ID: "apr_1"}}
	for _, c := range []struct {
		group        string
		held         *call.Decision
		how, relaxed string
	}{
		{"finance", nil, "partial", "own: partial"}, {"support", nil, "drop", ""}, {"fraud", nil, "", "own: show"}, {"other", nil, "redact", ""},
		{"other", &broke, "", "own: show"}, {"other", &approved, "redact", ""}, {"support", &broke, "drop", ""},
	} {
		r := newRig(t)
		conn := r.conns["crm"]
		conn.Mask.Rules[0].For = []call.MaskFor{{Callers: call.Approvers{Groups: []string{"finance"}}, How: "partial"},
			{Callers: call.Approvers{Groups: []string{"support"}}, How: "drop"}, {Callers: call.Approvers{Groups: []string{"fraud"}}, How: call.Show},
			{BreakGlass: true, How: call.Show}}
		conn.Record.Originals = []string{"age1x"}
		r.activate(t)
		r.identify = func(context.Context, call.Headers) (call.Identity, error) {
			return call.Identity{Issuer: "https://idp", Subject: "ann", Kind: call.Human, Groups: []string{c.group}}, nil
		}
		if c.held != nil {
			r.decide = func(context.Context, *call.Call) call.Ruling {
				return call.Ruling{Action: call.ActionHold, Rule: "asks"}
			}
			r.hold = func(context.Context, *call.Call, call.Ruling) call.Decision { return *c.held }
		}
		a := r.check(t, request())
		how := ""
		for _, m := range a.meta.Mask.Rules {
			how += m.How
			if m.For != nil {
				t.Error("who sees what travels with the mask")
			}
		}
		if how != c.how || strings.Join(a.event.Decision.Relaxed, ",") != c.relaxed || !slices.Equal(a.meta.Record.Originals, conn.Record.Originals) {
			t.Errorf("%s: hides %q, tells %q, originals for %q", c.group, how, a.event.Decision.Relaxed, a.meta.Record.Originals)
		}
	}
}
