package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/extproc/sealed"
)

// unsealer implements [console.Unsealer].
type unsealer struct {
	rows interface {
		Call(context.Context, call.ID) (clickhouse.Row, error)
	}
	approvals interface {
		Hold(context.Context, *call.Call, *call.Ruling) *call.Decision
	}
	recorder interface {
		Record(context.Context, call.Event) error
	}
	key  *sealed.ReleaseKey
	cfg  config.Unseal
	node string
	now  func() time.Time
}

func (a *App) unsealer() unsealer {
	u := unsealer{approvals: a.people.approvals, recorder: a.trail.recorder, key: a.release, cfg: a.cfg.Audit.Unseal, node: a.cfg.Node, now: a.opts.Now}
	if a.trail.db != nil {
		u.rows = a.trail.db
	}
	if u.now == nil {
		u.now = time.Now
	}
	return u
}

// maxUnsealReason bounds why somebody wants to see an original, in bytes.
const maxUnsealReason = 2 << 10

// Unseal treats the wish to see an original like a call that is held: people see
// who wants what and why, what they agree to is bound to that, and it is used
// once. That the original is released is durable before it is.
func (u unsealer) Unseal(ctx context.Context, who call.Identity, id call.ID, reason string) (console.Unsealed, error) {
	switch reason = strings.TrimSpace(reason); {
	case u.rows == nil:
		return console.Unsealed{}, fmt.Errorf("%w: audit.clickhouse.url is not set", console.ErrUnseal)
	case reason == "":
		return console.Unsealed{}, fmt.Errorf("%w: say why (reason); who must agree reads it, and it stays in the ledger", console.ErrUnseal)
	case len(reason) > maxUnsealReason || !utf8.ValidString(reason):
		return console.Unsealed{}, fmt.Errorf("%w: the reason is no text of at most %d bytes", console.ErrUnseal, maxUnsealReason)
	case len(u.cfg.Approvers.Groups)+len(u.cfg.Approvers.People) == 0:
		return console.Unsealed{}, fmt.Errorf("%w: audit.unseal.approvers names nobody who could agree", console.ErrUnseal)
	}
	row, err := u.rows.Call(ctx, id)
	switch {
	case errors.Is(err, clickhouse.ErrNotFound):
		return console.Unsealed{}, fmt.Errorf("%w: call %s has no row; it comes moments after the call ended", console.ErrNoOriginal, id)
	case err != nil:
		return console.Unsealed{}, err
	case row.OriginalSealed == "" && row.OriginalCommitment != "":
		return console.Unsealed{}, fmt.Errorf("%w of call %s any more: retention or an erasure took it", console.ErrNoOriginal, id)
	case row.OriginalSealed == "":
		return console.Unsealed{}, fmt.Errorf("%w of call %s: nothing was masked, it was withheld before its body came, or its connection keeps none (record.originals)", console.ErrNoOriginal, id)
	}
	// Nobody need be asked about what can't be released.
	released, err := u.key.Release([]byte(row.OriginalSealed), id.String())
	if err != nil {
		return console.Unsealed{}, fmt.Errorf("%w: %v", console.ErrUnseal, err)
	}
	wish, err := u.wish(who, id, reason, row.OriginalCommitment)
	if err != nil {
		return console.Unsealed{}, err
	}
	d := u.approvals.Hold(ctx, wish, &call.Ruling{Action: call.ActionHold, Rule: "audit.unseal", Reason: call.ReasonRule, PolicyVersion: "audit.unseal",
		Message: "releases what the function answered to call " + id.String() + " before it was masked",
		Hold:    call.Hold{Stages: []call.Stage{{Approvers: call.Approvers(u.cfg.Approvers)}}, Timeout: u.cfg.Wait, Wait: call.WaitRetry}})
	out := console.Unsealed{State: console.UnsealRefused, Message: d.Message}
	if d.Approval != nil {
		out.Approval = d.Approval.ID
	}
	switch {
	case d.Reason == call.ReasonApprovalPending:
		out.State = console.UnsealWaiting
		out.Message = "somebody in audit.unseal.approvers must agree; ask again with the same reason once they have"
		out.RetryAfter = max(1, int(d.Approval.Again.After.Seconds()))
		return out, nil
	case d.Outcome == call.Deny || d.Reason == call.ReasonApprovalUnavailable || d.Reason == call.ReasonAuditUnavailable:
		return console.Unsealed{}, errors.New(d.Message)
	case !d.Outcome.Allowed():
		return out, nil
	}
	note := call.ChangeEvent{What: call.ChangeUnsealed, Detail: "approval " + out.Approval + ": " + reason, Node: u.node, By: who.Issuer + "|" + who.Subject, Calls: []call.ID{id}}
	if err := u.recorder.Record(context.WithoutCancel(ctx), call.Event{Kind: call.Changed, Time: u.now(), Change: &note}); err != nil {
		return console.Unsealed{}, fmt.Errorf("that an original is released can't be recorded, so it is not: %w", err)
	}
	return console.Unsealed{State: console.UnsealReleased, Approval: out.Approval, Original: released, Commitment: []byte(row.OriginalCommitment)}, nil
}

// wish is what people are asked about, as a call. It has the id of the call whose
// original is wished for, so that its steps stand in that call's history.
func (u unsealer) wish(who call.Identity, id call.ID, reason, commitment string) (*call.Call, error) {
	args := map[string]any{"call": id.String(), "reason": reason, "commitment": hex.EncodeToString([]byte(commitment))}
	body, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("ask to unseal: %w", err)
	}
	return &call.Call{ID: id, Time: u.now(), Identity: who, Connection: "callgate", Protocol: call.HTTP, Function: "calls.unseal", Args: args, ArgsJSON: body,
		Request: call.Request{Method: "POST", Path: "/api/v1/calls/" + id.String() + "/unseal", Body: body,
			Headers: call.Headers{{Name: "content-type", Value: "application/json"}}}}, nil
}
