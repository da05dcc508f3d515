package verify

import (
	"context"
)

// checkApprovals compares the rows of approvals with the log.
func (r *logRun) checkApprovals(ctx context.Context) error {
	err := r.v.cfg.Source.ApprovalSteps(ctx, r.spool, r.log.First, r.tree.Size(), func(index uint64, digest [16]byte) error {
		want, there := r.approvals[index]
		f := Finding{Table: "approvals", Spool: r.spool, Index: index}
		switch {
		case !there:
			f.Kind, f.What = Inserted, "the ledger has no such step of an approval, or the row is there twice"
			r.v.find(f)
		case want != digest:
			f.Kind, f.What = Edited, "the row is not what the ledger tells"
			r.v.find(f)
		}
		delete(r.approvals, index)
		return nil
	})
	if err != nil {
		return err
	}
	for index := range r.approvals {
		if r.last != nil && r.v.cfg.Now.Sub(r.last.Inserted) < grace && index+1000 > r.last.Index {
			continue // its insert may be under way
		}
		r.v.find(Finding{Kind: Deleted, Table: "approvals", Spool: r.spool, Index: index, What: "the row of this step is missing"})
	}
	return nil
}
