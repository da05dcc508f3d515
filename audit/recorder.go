package audit

import (
	"context"

	"github.com/callgate/callgate/call"
)

// Recorder is what the doors record through. It returns when the event is
// durable; on an error nothing that the event would have told of may happen.
type Recorder struct {
	Spool *Spool
}

// Record makes e durable.
func (r Recorder) Record(ctx context.Context, e call.Event) error {
	return r.Spool.Append(ctx, e)
}
