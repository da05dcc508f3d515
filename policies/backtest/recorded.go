package backtest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/policies"
)

// Recorded is a call as far as its row of the audit trail tells it.
type Recorded struct {
	// Call has what the row has. What is missing, or not what the caller sent,
	// is told by Gaps: a rule must not be asked without.
	Call call.Call

	// Action is what the rules said, and Rule which; people may have been asked
	// afterwards. Action is empty where the rules were not asked, or what they
	// said is not in the row: then Reason is why the call was denied before.
	Action call.Action
	Rule   string
	Reason call.Reason

	args    string            // why no argument is known, if none is
	hidden  map[string]string // arguments that are not known, and why
	headers map[string]string // by lower case name
	path    string            // why the path is not known, if it is not
}

// Gap is a part of a call that is not recorded, or not as the caller sent it.
type Gap struct {
	Part policies.Part
	Why  string
}

// The reasons for gaps, in the words of the report.
const (
	whyDeleted    = "deleted on request or by retention"
	whyHidden     = "holds a credential, of which only a hash is recorded"
	whyUnreadable = "can't be read back from the record"
	whyText       = "is not recorded as it came: it was no UTF-8"
	whyClaims     = "claims are not recorded"
	whySession    = "depends on the calls before, which are not replayed in order"
	whyHeader     = "not recorded; record.headers of the connection names those that are kept"
	whyGiven      = "was given while the service ran, and is not in the policy; --grants takes such grants in"
	whyNever      = "not recorded"
)

// maxBody is the largest body that a connection can be told to let through.
const maxBody = 64 << 20

// FromRow reads a row. Columns that were not asked for may be empty if no rule
// looks at what they hold.
func FromRow(row *clickhouse.Row) Recorded {
	r := Recorded{
		Call: call.Call{
			ID: row.CallID, Time: row.Time, Session: row.Session,
			Identity: call.Identity{Issuer: row.Issuer, Subject: row.Subject, Kind: call.Kind(row.Kind), Groups: row.Groups,
				Method: row.AuthMethod, TokenID: row.TokenID, Scope: row.Scope},
			Connection: row.Connection, Protocol: call.Protocol(row.Protocol), Function: row.Function,
			Request: call.Request{Method: row.Method, Scheme: row.Scheme, Authority: row.Authority, Path: row.Path,
				TraceID: row.TraceID, RequestID: row.RequestID},
		},
		headers: row.RequestHeaders,
	}
	c := &r.Call
	if row.TokenExpires != nil {
		c.Identity.Expires = *row.TokenExpires
	}
	for i, subject := range row.ActorSubjects {
		actor := call.Actor{Subject: subject}
		if i < len(row.ActorIssuers) {
			actor.Issuer = row.ActorIssuers[i]
		}
		c.Identity.Actors = append(c.Identity.Actors, actor)
	}
	for name, value := range row.RequestHeaders {
		c.Request.Headers = append(c.Request.Headers, call.Header{Name: name, Value: value})
	}
	if at, err := netip.ParseAddrPort(row.Source); err == nil {
		c.Request.Source = at
	}
	// Rules see a body's length only.
	if length := row.RequestBodyBytes; uint64(len(row.RequestBody)) == length {
		c.Request.Body = []byte(row.RequestBody)
	} else if length <= maxBody {
		c.Request.Body = make([]byte, length)
	}
	switch {
	case row.Path == "":
		r.path = whyDeleted
	case redact.Stands(row.Path):
		r.path = whyHidden
	case repaired(row.Path):
		r.path = whyText
	}
	r.readArgs(row.Args)
	r.ruling(row)
	return r
}

func (r *Recorded) readArgs(text string) {
	if text == "" {
		r.args = whyDeleted
		return
	}
	r.Call.ArgsJSON = []byte(text)
	args, err := protocol.Arguments(r.Call.ArgsJSON)
	if err != nil {
		r.args = whyUnreadable
		return
	}
	r.Call.Args = args
	if !redact.Stands(text) {
		return
	}
	r.hidden = map[string]string{}
	for name, value := range args {
		if redact.Stands(name) {
			r.args = whyHidden // the name itself is not known
			return
		}
		if stands(value) {
			r.hidden[name] = whyHidden
		}
	}
	// Each name and value was looked at decoded; if none stands for a secret,
	// escapes in the text only looked so together.
}

// stands reports whether anything in v stands for a secret.
func stands(v any) bool {
	switch v := v.(type) {
	case string:
		return redact.Stands(v)
	case []any:
		for _, e := range v {
			if stands(e) {
				return true
			}
		}
	case map[string]any:
		for k, e := range v {
			if redact.Stands(k) || stands(e) {
				return true
			}
		}
	}
	return false
}

// repaired reports whether a recorded text may have been made UTF-8.
func repaired(s string) bool { return strings.Contains(s, "\uFFFD") }

// ruling finds what the rules said in what was decided in the end.
func (r *Recorded) ruling(row *clickhouse.Row) {
	r.Reason, r.Rule = call.Reason(row.Reason), row.Rule
	switch call.Outcome(row.Decision) {
	case call.HoldAllow, call.HoldDeny, call.HoldExpired:
		r.Action = call.ActionHold
		return
	}
	switch r.Reason {
	case call.ReasonShadow: // let through; what the rules said stands last
		r.Action = call.ActionDeny
		if n := len(row.Shadow); n > 0 && strings.HasPrefix(row.Shadow[n-1], string(call.ActionHold)+": ") {
			r.Action = call.ActionHold
		}
	case call.ReasonRule, call.ReasonNoRule, call.ReasonPolicyError:
		r.Action = call.ActionDeny
		if row.Decision == string(call.Allow) {
			r.Action = call.ActionAllow
		}
	case call.ReasonApproved, call.ReasonRefused, call.ReasonApprovalExpired, call.ReasonCanceled, call.ReasonApprovalUnavailable, call.ReasonBatchHold,
		call.ReasonBreakGlass, call.ReasonBreakGlassRefused, call.ReasonApprovalPending, call.ReasonApprovalLimit:
		r.Action = call.ActionHold
	case call.ReasonBatchWhole: // the rules had let it through
		r.Action = call.ActionAllow
	case call.ReasonCredentialMissing, call.ReasonRequestWhole: // the rules had let it through
		r.Action = call.ActionAllow
		if row.ApprovalID != "" {
			r.Action = call.ActionHold
		}
	}
}

// ruled are the reasons of rows in which Action is set.
var ruled = []string{
	string(call.ReasonRule), string(call.ReasonShadow), string(call.ReasonNoRule), string(call.ReasonPolicyError), string(call.ReasonApproved), string(call.ReasonRefused),
	string(call.ReasonApprovalExpired), string(call.ReasonCanceled), string(call.ReasonApprovalUnavailable), string(call.ReasonBatchHold),
	string(call.ReasonBreakGlass), string(call.ReasonBreakGlassRefused), string(call.ReasonApprovalPending), string(call.ReasonApprovalLimit), string(call.ReasonBatchWhole), string(call.ReasonCredentialMissing), string(call.ReasonRequestWhole),
}

// Gaps lists which of the parts that rules look at, see [policies.Set.Reads],
// are not known of this call. What this package does not know of is one.
func (r *Recorded) Gaps(reads []policies.Part) []Gap {
	var gaps []Gap
	for _, p := range reads {
		if why := r.gap(p); why != "" {
			gaps = append(gaps, Gap{p, why})
		}
	}
	return gaps
}

func (r *Recorded) gap(p policies.Part) string {
	switch p.Field {
	case "call.id", "call.connection", "call.protocol", "call.method", "call.source_ip",
		"identity.issuer", "identity.subject", "identity.kind", "identity.acting", "identity.method", "identity.groups", "identity.actors",
		"connection", "connection.name", "connection.protocol", "now":
		return ""
	case "call.body_size":
		if r.Call.Request.Body == nil {
			return whyNever
		}
		return ""
	case "call.function":
		return unless(repaired(r.Call.Function), whyText)
	case "call.session", "session.id":
		return unless(repaired(r.Call.Session), whyText)
	case "call.authority":
		return unless(redact.Stands(r.Call.Request.Authority), whyHidden) + unless(repaired(r.Call.Request.Authority), whyText)
	case "call.path":
		return r.path
	case "call.args":
		return r.argument(p.Key)
	case "call.headers":
		return r.header(strings.ToLower(p.Key))
	case "identity.claims":
		return whyClaims
	}
	if variable, _, _ := strings.Cut(p.Field, "."); variable == "session" {
		return whySession
	}
	return whyNever
}

func unless(bad bool, why string) string {
	if bad {
		return why
	}
	return ""
}

func (r *Recorded) argument(name string) string {
	switch {
	case r.args != "":
		return r.args
	case name != "":
		return r.hidden[name]
	case len(r.hidden) > 0:
		return whyHidden
	}
	return ""
}

func (r *Recorded) header(name string) string {
	value, has := r.headers[name]
	switch {
	case policies.HeaderHidden(name):
		return "" // from rules, in whatever call
	case name == "":
		return whyHeader
	case has && redact.Stands(value):
		return whyHidden
	case has && repaired(value):
		return whyText
	case has || call.HeaderRecorded(name):
		return ""
	}
	return whyHeader
}

// Parts are the parts that gaps are in.
func Parts(gaps []Gap) []policies.Part {
	list := make([]policies.Part, len(gaps))
	for i, g := range gaps {
		list[i] = g.Part
	}
	return list
}

// String is the gap as a report tells it.
func (g Gap) String() string { return fmt.Sprintf("%s: %s", g.Part, g.Why) }

// ArgumentsKnown reports whether the arguments are there, one or the other
// apart that [Recorded.Hidden] tells.
func (r *Recorded) ArgumentsKnown() bool { return r.args == "" }

// Hidden reports whether an argument is not known, since a credential is, or
// might be, in it.
func (r *Recorded) Hidden(argument string) bool { return r.hidden[argument] != "" }
