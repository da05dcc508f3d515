package extauthz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extauthz/connection"
	"github.com/callgate/callgate/extauthz/identity"
)

// decision is the state of one call on its way through the stages.
type decision struct {
	server      *Server
	ctx         context.Context
	started     time.Time
	versions    *versions
	active      *Active
	certificate string // the caller's, as Envoy passed it on
	routedBy    string // the policy version that the Envoy says it runs
	call        call.Call
	conn        *connection.Connection // nil: unknown
	mask        call.Mask
	request     *call.RequestMask   // nil: the function gets the request that was judged
	hidden      []call.Masked       // of the request
	inPath      []string            // arguments that stand in the path
	aliases     map[string][]string // of fields in the response
	copied      []string            // headers that repeat the caller's credential; nil: not looked for yet
	ownMask     bool                // the mask is not the connection's and its rules' as they stand
	legs        []call.EventKind    // what this Envoy will report later
	partial     bool                // Envoy cut the body off
	sent        bool                // Envoy was told to send the body
	edits       bool                // Envoy lets ext_proc take calls out of a batch
	streamed    bool                // Envoy was told not to wait for it
	session     string              // as the connection's header names it

	place   call.Place // in a batch
	members []*member  // of a batch that was decided

	header, value string // the service's own credential

	ruling call.Ruling    // the rules' word
	waits  bool           // for people
	said   *call.Decision // by them
	resp   *authv3.CheckResponse
	err    error
}

// denied is a call that some stage refused.
type denied struct {
	reason  call.Reason
	message string
}

func deny(reason call.Reason, format string, args ...any) *denied {
	return &denied{reason, fmt.Sprintf(format, args...)}
}

// run takes the call through the stages, or as far as people must be asked: then it
// waits.
func (d *decision) run(read func() (*authv3.CheckRequest, error)) {
	req, err := read()
	if err != nil {
		d.err = err
		return
	}
	d.started = d.server.cfg.Now()
	if d.resp, d.err = d.judge(req); d.resp != nil || d.err != nil {
		return
	}
	if d.ruling.Action == call.ActionHold && !d.call.Unread {
		d.call.Loose = protocol.Loose(d.call.Protocol, &d.call.Request)
		d.forget()
		d.waits = true
		return
	}
	d.resp, d.err = d.conclude(d.ruled())
}

// forget lets go of what nothing after the rules looks at, since the call may wait
// long: its arguments as they were parsed, and the caller's credentials.
func (d *decision) forget() {
	d.call.Args = nil
	d.copied = d.copies()
	credentials, recorded := d.server.cfg.Identifier.CredentialHeaders(), d.settings().Headers
	d.call.Request.Headers = slices.DeleteFunc(slices.Clone(d.call.Request.Headers), func(f call.Header) bool {
		return slices.Contains(credentials, f.Name) && !slices.Contains(recorded, f.Name) && !call.HeaderRecorded(f.Name)
	})
}

// wait asks people and waits for what they say. It stands on the stack of calls that
// wait, and so keeps nothing there.
func (d *decision) wait() {
	d.server.waiting.Add(1)
	d.server.cfg.Metrics.held.Inc()
	defer func() {
		d.server.waiting.Add(-1)
		d.server.cfg.Metrics.held.Dec()
	}()
	d.said = d.server.cfg.Approvals.Hold(d.ctx, &d.call, &d.ruling)
}

// goOn takes a call that has waited through the rest of the stages.
func (d *decision) goOn() { d.resp, d.err = d.conclude(*d.said) }

// judge takes the call to the rules' word, or answers for it before.
func (d *decision) judge(req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	var err error
	if d.call.ID, err = call.NewID(); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	d.call.Time = d.started
	served := d.server.versions.Load()
	if served == nil {
		return nil, status.Error(codes.Unavailable, "no policy is active yet")
	}
	extensions := req.GetAttributes().GetContextExtensions()
	d.choose(served, extensions)
	d.read(req)
	d.find(extensions)

	for _, stage := range []func() *denied{d.sane, d.identify, d.discreet, d.connected, func() *denied { return d.agree(extensions) }, d.canary, d.whole, d.discreetBody} {
		if no := stage(); no != nil {
			return d.refuse(call.Decision{Outcome: call.Deny, Reason: no.reason, Message: no.message})
		}
	}
	if d.conn.Batches != nil && d.conn.Batches.In(&d.call.Request) {
		return d.batch()
	}
	no := d.parse()
	if no == nil {
		no = d.discreetBody() // as it was read
	}
	if no != nil {
		return d.refuse(call.Decision{Outcome: call.Deny, Reason: no.reason, Message: no.message})
	}
	d.ruling = d.rule()
	return nil, nil
}

// conclude answers for the call after it was decided, by people where the rule
// says so.
func (d *decision) conclude(decided call.Decision) (*authv3.CheckResponse, error) {
	if decided.Outcome == call.HoldAllow {
		if no := d.still(); no != nil {
			decided.Outcome, decided.Reason, decided.Message = call.HoldDeny, no.reason, no.message
		}
	}
	decided.PolicyVersion, decided.Shadow = d.active.Version, d.ruling.Shadow
	if !decided.Outcome.Allowed() {
		return d.refuse(decided)
	}
	d.mask, decided.Relaxed, d.ownMask = d.mask.For(d.call.Identity, decided)
	tags := func() *denied {
		if len(d.mask.Rules) == 0 {
			return nil
		}
		return d.unconditional()
	}
	for _, stage := range []func() *denied{tags, d.credential, d.maskRequest} {
		if no := stage(); no != nil {
			return d.refuse(call.Decision{Outcome: call.Deny, Rule: decided.Rule, Reason: no.reason, Message: no.message,
				Shadow: decided.Shadow, Approval: decided.Approval})
		}
	}
	return d.allow(decided)
}

// rule asks the policy, which may add to what is hidden in the response.
func (d *decision) rule() call.Ruling {
	ruling := d.active.Policy.Decide(d.ctx, &d.call)
	d.mask.Rules = append(d.mask.Rules[:len(d.mask.Rules):len(d.mask.Rules)], ruling.Mask.Rules...)
	if d.conn.Shadow && ruling.Reason != call.ReasonMalformedRequest && ruling.Reason != call.ReasonInsufficientScope {
		ruling = ruling.InShadow()
	}
	return ruling
}

// find looks up the connection: by the route's own word where the mesh can send
// one, else by authority and path.
func (d *decision) find(extensions map[string]string) {
	name, told := extensions["connection"]
	if told {
		d.conn = d.active.Connections.Named(name)
	} else {
		d.conn = d.active.Connections.Match(d.call.Request.Authority, d.call.Request.Path)
	}
	// Envoy marks a body as whole or partial only where there is one.
	d.sent = d.sent || extensions["body"] == "sent"
	d.streamed = extensions["body"] == "streamed"
	for _, leg := range strings.Split(extensions["legs"], ",") {
		switch k := call.EventKind(leg); k {
		case call.Answered, call.Finished:
			d.legs = append(d.legs, k)
		}
	}
	// The denied calls are answered for in the response, so that must pass
	// ext_proc, too.
	d.edits = extensions["batch"] == "edit" && slices.Contains(d.legs, call.Answered)
	d.routedBy = extensions["policy_version"]
	if d.conn != nil {
		d.use(d.conn)
	}
}

// use takes a connection for the call's.
func (d *decision) use(c *connection.Connection) {
	d.conn = c
	d.call.Connection, d.call.Protocol, d.mask = c.Name, c.Protocol, c.Mask
}

// sane refuses what is no single request with a body that can be judged.
func (d *decision) sane() *denied {
	h := d.call.Request.Headers
	switch {
	case d.call.Request.Method == http.MethodConnect, len(h.Values(":protocol")) > 0:
		return deny(call.ReasonUpgradeRefused, "CONNECT is refused: what goes through a tunnel can't be judged")
	case len(h.Values("upgrade")) > 0, len(h.Values("http2-settings")) > 0:
		return deny(call.ReasonUpgradeRefused, "protocol upgrades are refused: what comes after can't be judged")
	}
	return nil
}

func (d *decision) identify() *denied {
	r := &d.call.Request
	shown := identity.Request{Headers: r.Headers, Certificate: d.certificate, Method: r.Method, Scheme: r.Scheme, Authority: r.Authority, Path: r.Path}
	if d.conn != nil {
		shown.Proof = identity.Proof(d.conn.Proof)
	}
	id, err := d.server.cfg.Identifier.Caller(d.ctx, shown)
	if err != nil {
		return unidentified(err)
	}
	d.call.Identity = id
	return nil
}

func unidentified(err error) *denied {
	var known *identity.Error
	if errors.As(err, &known) {
		return &denied{known.Reason, known.Message}
	}
	return deny(call.ReasonIdentityUnavailable, "the caller can't be identified now; try again later")
}

func (d *decision) connected() *denied {
	if d.conn == nil {
		return deny(call.ReasonUnknownConnection, "no connection is registered for this host and path; add one, or correct the address")
	}
	if header := d.conn.SessionHeader; header != "" {
		var err error
		if d.session, err = d.call.Request.Headers.SessionIn(header); err != nil {
			return deny(call.ReasonMalformedRequest, "%v", err)
		}
	}
	return nil
}

// whole makes sure that the body at hand is the body that the function gets.
func (d *decision) whole() *denied {
	r := &d.call.Request
	if d.partial || int64(len(r.Body)) > d.conn.MaxBody {
		return deny(call.ReasonBodyTooLarge, "the request body is over the %d bytes that connection %s takes; send less, or raise its max_body", d.conn.MaxBody, d.conn.Name)
	}
	lengths := r.Headers.Values("content-length")
	if len(lengths) > 1 {
		return deny(call.ReasonMalformedRequest, "content-length stands more than once")
	}
	if d.streamed {
		return nil // parse takes it only where the connection wants it so
	}
	if len(lengths) == 0 {
		if !d.sent && len(r.Body) == 0 && len(r.Headers.Values("transfer-encoding")) > 0 {
			return deny(call.ReasonMalformedRequest, "the gateway was not given the request body; let Envoy send it (with_request_body)")
		}
		if !d.sent && len(r.Body) == 0 && r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodDelete && r.Method != http.MethodOptions {
			return deny(call.ReasonMalformedRequest, "the gateway was not given the request body; let Envoy send it (with_request_body)")
		}
		return nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	switch {
	case err != nil:
		return deny(call.ReasonMalformedRequest, "content-length is not a number")
	case int64(n) > d.conn.MaxBody:
		return deny(call.ReasonBodyTooLarge, "the request body is over the %d bytes that connection %s takes; send less, or raise its max_body", d.conn.MaxBody, d.conn.Name)
	case int64(n) != int64(len(r.Body)):
		return deny(call.ReasonMalformedRequest, "the gateway was given %d of %d bytes of the body; let Envoy send it whole (with_request_body)", len(r.Body), n)
	}
	return nil
}

func (d *decision) parse() *denied {
	inv, err := d.conn.Parser.Parse(&d.call.Request)
	d.call.Function, d.call.Args, d.call.ArgsJSON, d.call.RPCID = inv.Function, inv.Args, inv.ArgsJSON, inv.RPCID
	d.call.Unread = inv.Unread
	d.call.BelongTo(d.session, inv.Session)
	d.aliases, d.inPath = inv.Aliases, inv.InPath
	if err != nil {
		var known *protocol.Error
		if errors.As(err, &known) {
			return &denied{known.Reason, known.Message}
		}
		return deny(call.ReasonMalformedRequest, "the request can't be read")
	}
	if d.streamed && !inv.Unread {
		return deny(call.ReasonMalformedRequest, "the gateway was not given the request body, and connection %s does not list %s in grpc.streaming", d.conn.Name, inv.Function)
	}
	return nil
}

// ruled is the decision where nobody is asked.
func (d *decision) ruled() call.Decision {
	switch r := &d.ruling; r.Action {
	case call.ActionAllow:
		out := call.Decision{Outcome: call.Allow, Rule: r.Rule, Reason: call.ReasonRule}
		if r.Reason == call.ReasonShadow {
			out.Reason, out.Message = r.Reason, r.Message
		}
		if d.call.Unread {
			out.Message = strings.TrimPrefix(out.Message+"; judged by its headers: the messages that it streams were not inspected", "; ")
		}
		return out
	case call.ActionHold:
		// An approval is for exact bytes, and these have not come.
		return call.Decision{Outcome: call.Deny, Rule: r.Rule, Reason: call.ReasonRule,
			Message: "a call that streams its messages can't be held for approval, since nobody could see what they approve"}
	default:
		return call.Decision{Outcome: call.Deny, Rule: r.Rule, Reason: r.Reason, Message: r.Message}
	}
}

// still refuses a call that people let through after what it was judged by is
// over: its policy, or its caller's token. A call waits for minutes, and a policy
// that is kept for calls on their way is not kept for it.
func (d *decision) still() *denied {
	now := d.server.versions.Load()
	if v := d.active.Version; v != now.stable.Version && (now.canary == nil || v != now.canary.Version) {
		return deny(call.ReasonPolicyUnavailable, "the policy changed while this call waited for approval; make the call again, so that the new one decides")
	}
	if err := d.server.cfg.Identifier.Still(d.call.Identity); err != nil {
		return unidentified(err)
	}
	return nil
}

func (d *decision) credential() *denied {
	if d.conn.Credential == nil {
		return nil
	}
	var err error
	if d.header, d.value, err = d.conn.Credential.Header(); err != nil {
		d.server.cfg.Log.ErrorContext(d.ctx, "a service's credential can't be had; its calls are denied", "connection", d.conn.Name, "error", err)
		return deny(call.ReasonCredentialMissing, "the gateway has no credential for connection %s at hand; its operator must supply it", d.conn.Name)
	}
	return nil
}
