package extproc

import (
	"context"
	"fmt"
	"time"
)

// defaultTimeout is long for masking what one message of Envoy's brings, and
// short for a caller that waits. Envoy itself has no bound for bodies that stream.
const defaultTimeout = 30 * time.Second

// slow says that a part of a response took too long.
type slow struct{ limit time.Duration }

func (s slow) Error() string {
	return fmt.Sprintf("a part of the response was not masked and recorded within %s (masking.timeout); an analyzer or the disk of the audit trail is too slow", s.limit)
}

// within bounds one step: after the limit the response's context ends, so that
// whoever waits for an analyzer or a Sealer stops. The returned function ends the
// step.
func (r *response) within(limit time.Duration) (done func()) {
	t := time.AfterFunc(limit, func() { r.giveUp(slow{limit}) })
	r.pause = func(wait func() error) error {
		t.Stop()
		defer t.Reset(limit)
		return wait()
	}
	return func() { t.Stop() }
}

// why is the cause of a failure: where the time was up, that is it.
func (r *response) why(err error) error {
	if s, ok := context.Cause(r.ctx).(slow); ok {
		return s
	}
	return err
}
