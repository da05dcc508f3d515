package clickhouse

import (
	"context"
	"fmt"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/ledger"
)

// tableCheckpoints drops equal rows by itself, so a checkpoint may be sent
// again after an outcome that nobody saw.
const tableCheckpoints = "checkpoints"

// checkpoints ships what was signed. A failure is made up for by the next
// round: the events are there already.
func (s *Shipper) checkpoints(ctx context.Context) {
	if s.cfg.Checkpoints == nil || s.away.Load() {
		return
	}
	list := s.cfg.Checkpoints.Pending(s.state.Events)
	if len(list) == 0 {
		return
	}
	if err := s.insertCheckpoints(ctx, list); err != nil {
		if ctx.Err() == nil {
			s.cfg.Metrics.retries.Inc()
			s.cfg.Log.WarnContext(ctx, "could not ship checkpoints; it is tried again", "error", err)
		}
		return
	}
	s.cfg.Checkpoints.Shipped(list[len(list)-1])
}

func (s *Shipper) insertCheckpoints(ctx context.Context, list []audit.SignedCheckpoint) error {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	out, err := s.db.conn.PrepareBatch(ctx, s.inserts[tableCheckpoints])
	if err != nil {
		return fmt.Errorf("insert into checkpoints: %w", explain(err))
	}
	defer out.Abort()
	for _, cp := range list {
		row := StoredCheckpoint{Spool: s.spool.ID(), Size: cp.Size, Time: cp.Time, Root: string(cp.Root[:]), Node: cp.Node,
			Note: string(cp.Signed), Frontier: hashes(cp.Frontier), Prefixes: string(cp.Prefixes)}
		if err := out.AppendStruct(&row); err != nil {
			return fmt.Errorf("insert into checkpoints: %w", err)
		}
	}
	if err := out.Send(); err != nil {
		return fmt.Errorf("insert into checkpoints: %w", explain(err))
	}
	s.cfg.Metrics.rows.WithLabelValues(tableCheckpoints).Add(float64(len(list)))
	return nil
}

func hashes(list []ledger.Hash) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = string(list[i][:])
	}
	return out
}
