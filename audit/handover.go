package audit

import (
	"context"
	"fmt"
	"slices"

	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/call"
)

// tell records what the log does not tell of the keys yet.
func (c *Checkpointer) tell(ctx context.Context, ring ledger.Ring) error {
	for _, k := range ring.Keys {
		e := call.ChangeEvent{Version: k.Verifier, Node: c.cfg.Node}
		switch {
		case !k.Revoked.IsZero() && !k.RevokedTold:
			e.What, e.Detail = call.ChangeKeyRevoked, k.Reason
		case k.Revoked.IsZero() && !k.AddedTold:
			e.What = call.ChangeKeyAdded
		default:
			continue
		}
		// Told twice, after a crash, is no harm.
		if err := c.cfg.Spool.Append(ctx, call.Event{Kind: call.Changed, Time: c.cfg.Now(), Change: &e}); err != nil {
			return fmt.Errorf("tell of a ledger key: %w", err)
		}
	}
	return nil
}

// resume takes up the checkpoints by which a key handed over to the next, and
// which ClickHouse may lack: nobody can sign these again.
func (c *Checkpointer) resume(ring ledger.Ring) error {
	if c.resumed {
		return nil
	}
	var list []SignedCheckpoint
	for _, k := range ring.Keys {
		if k.Handover == "" {
			continue
		}
		cp, err := k.OpenHandover()
		if err != nil {
			return err
		}
		if cp.Origin == Origin(c.cfg.Spool.ID()) {
			list = append(list, SignedCheckpoint{Checkpoint: cp, Signed: []byte(k.Handover), Node: c.cfg.Node, handover: true})
		}
	}
	c.resumed = true
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(list, c.pending...)
	return nil
}

// waiting tells whether a checkpoint waits for ClickHouse.
func (c *Checkpointer) waiting(signed string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.pending, func(cp SignedCheckpoint) bool { return string(cp.Signed) == signed })
}

// told notes in the ring what the signed log now tells, and forgets the secrets
// that have a successor. The checkpoint by which they handed over stays there
// until ClickHouse has it.
func (c *Checkpointer) told(ctx context.Context, ring ledger.Ring, cp SignedCheckpoint) error {
	signing := ring.Signing()
	news := cp.handover
	told := make(map[string]ledger.Key)
	for _, k := range ring.Keys {
		news = news || !k.Revoked.IsZero() && !k.RevokedTold || k.Revoked.IsZero() && !k.AddedTold || k.Handover != "" && !c.waiting(k.Handover)
		told[k.Verifier] = k
	}
	if !news {
		return nil
	}
	_, err := c.cfg.Keys.Edit(ctx, func(now *ledger.Ring) error {
		// The file may have changed since; only what was signed is told, and
		// only to a successor that can still sign.
		newest := signing[len(signing)-1].Verifier
		succeeded := slices.ContainsFunc(now.Signing(), func(k ledger.Key) bool { return k.Verifier == newest })
		for i := range now.Keys {
			k := &now.Keys[i]
			was, known := told[k.Verifier]
			if !known {
				continue
			}
			k.AddedTold = true
			k.RevokedTold = !was.Revoked.IsZero()
			switch {
			case k.Verifier == newest && cp.handover && succeeded:
				k.Handover = string(cp.Signed)
			case k.Verifier != newest && succeeded:
				k.Secret = ""
				fallthrough
			default:
				if k.Handover != "" && !c.waiting(k.Handover) {
					k.Handover = ""
				}
			}
		}
		return nil
	})
	return err
}
