package app

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/extproc/sealed"
)

type rowOf func(call.ID) (clickhouse.Row, error)

func (f rowOf) Call(_ context.Context, id call.ID) (clickhouse.Row, error) { return f(id) }

type holdOf func(*call.Call, call.Ruling) call.Decision

func (f holdOf) Hold(_ context.Context, c *call.Call, r *call.Ruling) *call.Decision {
	d := f(c, *r)
	return &d
}

type recordOf func(call.Event) error

func (f recordOf) Record(_ context.Context, e call.Event) error { return f(e) }

func TestUnseal(t *testing.T) {
	key, err := sealed.NewReleaseKey()
	if err != nil {
		t.Fatal(err)
	}
	investigator, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	id, err := call.NewID()
	if err != nil {
		t.Fatal(err)
	}
	const original = `{"card":"4111111111111111"}`
	blob, commitment, err := key.Seal(sealed.Original{Call: id.String(), Length: int64(len(original)), Body: []byte(original)}, []string{investigator.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	good := clickhouse.Row{CallID: id, OriginalSealed: string(blob), OriginalCommitment: string(commitment[:])}
	approval := &call.Approval{ID: "apr_1"}
	yes := call.Decision{Outcome: call.HoldAllow, Reason: call.ReasonApproved, Approval: approval}
	full := errors.New("spool: no space left")
	for name, tt := range map[string]struct {
		row      clickhouse.Row
		rowErr   error
		reason   string
		nobody   bool
		other    bool // another release key
		decision call.Decision
		record   error
		state    string
		err      error  // that it is
		says     string // in the error or the message
		asked    bool
	}{
		"agreed to":       {row: good, reason: "case 1", decision: yes, state: console.UnsealReleased, asked: true},
		"not yet":         {row: good, reason: "case 1", decision: call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonApprovalPending, Approval: approval}, state: console.UnsealWaiting, says: "ask again with the same reason", asked: true},
		"refused":         {row: good, reason: "case 1", decision: call.Decision{Outcome: call.HoldDeny, Reason: call.ReasonRefused, Message: "an approver refused", Approval: approval}, state: console.UnsealRefused, says: "refused", asked: true},
		"nobody answered": {row: good, reason: "case 1", decision: call.Decision{Outcome: call.HoldExpired, Reason: call.ReasonApprovalExpired, Message: "nobody decided", Approval: approval}, state: console.UnsealRefused, says: "nobody decided", asked: true},
		"store away":      {row: good, reason: "case 1", decision: call.Decision{Outcome: call.Deny, Reason: call.ReasonApprovalUnavailable, Message: "approvals can't be taken"}, says: "approvals can't be taken", asked: true},
		"not recorded":    {row: good, reason: "case 1", decision: yes, record: full, err: full, asked: true},
		"no reason":       {row: good, reason: " ", err: console.ErrUnseal, says: "say why"},
		"a book":          {row: good, reason: strings.Repeat("x", 3000), err: console.ErrUnseal},
		"no approvers":    {row: good, reason: "case 1", nobody: true, err: console.ErrUnseal, says: "names nobody"},
		"no such call":    {rowErr: clickhouse.ErrNotFound, reason: "case 1", err: console.ErrNoOriginal, says: "has no row"},
		"trail away":      {rowErr: full, reason: "case 1", err: full},
		"nothing masked":  {row: clickhouse.Row{CallID: id}, reason: "case 1", err: console.ErrNoOriginal, says: "nothing was masked"},
		"erased":          {row: clickhouse.Row{CallID: id, OriginalCommitment: good.OriginalCommitment}, reason: "case 1", err: console.ErrNoOriginal, says: "retention or an erasure"},
		"another gateway": {row: good, reason: "case 1", other: true, err: console.ErrUnseal, says: "another release key"},
	} {
		t.Run(name, func(t *testing.T) {
			var notes []call.Event
			asked := false
			u := unsealer{key: key, now: time.Now, cfg: config.Unseal{Approvers: config.Approvers{Groups: []string{"dpo"}}, Wait: time.Hour},
				rows: rowOf(func(call.ID) (clickhouse.Row, error) { return tt.row, tt.rowErr }),
				approvals: holdOf(func(c *call.Call, r call.Ruling) call.Decision {
					asked = true
					if c.Identity.Subject != "ann" || !strings.Contains(string(c.Request.Body), tt.reason) || !strings.Contains(string(c.Request.Body), id.String()) ||
						r.Hold.Wait != call.WaitRetry || len(r.Hold.Stages) != 1 || r.Hold.Stages[0].Groups[0] != "dpo" || r.Hold.Timeout != time.Hour {
						t.Errorf("asks %+v %+v", c, r)
					}
					return tt.decision
				}),
				recorder: recordOf(func(e call.Event) error { notes = append(notes, e); return tt.record })}
			if tt.nobody {
				u.cfg.Approvers = config.Approvers{}
			}
			if tt.other {
				if u.key, err = sealed.NewReleaseKey(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := u.Unseal(t.Context(), call.Identity{Issuer: "https://idp", Subject: "ann"}, id, tt.reason)
			if tt.err != nil && !errors.Is(err, tt.err) || tt.err == nil && tt.state != "" && err != nil || got.State != tt.state || asked != tt.asked {
				t.Fatalf("got %+v, %v; asked %v", got, err, asked)
			}
			if text := got.Message; err != nil {
				text = err.Error()
				if !strings.Contains(text, tt.says) {
					t.Errorf("says %q", text)
				}
			} else if !strings.Contains(text, tt.says) {
				t.Errorf("says %q", text)
			}
			if (len(got.Original) > 0) != (tt.state == console.UnsealReleased) {
				t.Fatal("released, or not")
			}
			if tt.state != console.UnsealReleased {
				return
			}
			o, err := sealed.Open(got.Original, strings.NewReader(investigator.String()), id.String(), [32]byte(got.Commitment))
			if err != nil || string(o.Body) != original {
				t.Errorf("opened %q, %v", o.Body, err)
			}
			if n := notes[0].Change; len(notes) != 1 || n.What != call.ChangeUnsealed || n.By != "https://idp|ann" || n.Calls[0] != id || !strings.Contains(n.Detail, "apr_1: case 1") {
				t.Errorf("notes %+v", notes)
			}
		})
	}
}
