package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/policies"
)

// Judge implements [extproc.Judge]: by the policy that the request was decided by,
// or, where that is gone, by the one that decides now. Of who calls it knows what
// travels with the call; what the rules say is known where that is enough, else it
// is no. A tool call counts as one of the session and the identity.
func (d *decider) Judge(ctx context.Context, meta call.Metadata, function string, args map[string]any) (call.Ruling, error) {
	now := d.deciding.Load().of(meta)
	if now == nil || meta.Caller == nil {
		return call.Ruling{}, errors.New("no policy decides here yet")
	}
	c := call.Call{ID: meta.CallID, Time: time.Now(), Identity: *meta.Caller, Connection: meta.Connection, Protocol: meta.Protocol, Function: function, Args: args}
	unknown := d.carried.toolCall(meta, &c)
	d.counts.Count(&c)
	a, err := now.rules.Assess(ctx, &c, unknown)
	if err != nil {
		return call.Ruling{}, err
	}
	ruling := a.Ruling
	if !a.Known {
		var needs []string
		for _, p := range a.Needs {
			needs = append(needs, p.String())
		}
		ruling = call.Ruling{Action: call.ActionDeny, Reason: call.ReasonPolicyError,
			Message: fmt.Sprintf("what the rules say of %q depends on %s, which is not known of a tool call", function, strings.Join(needs, ", "))}
	}
	if now.shadow[meta.Connection] && ruling.Reason != call.ReasonInsufficientScope {
		ruling = ruling.InShadow()
	}
	return ruling, nil
}

// unknownOfTools is what a tool call in a model's answer does not have.
var unknownOfTools = []policies.Part{
	{Field: "call.headers"}, {Field: "call.body_size"}, {Field: "call.path"}, {Field: "call.method"}, {Field: "call.authority"},
	{Field: "call.source_ip"},
}
