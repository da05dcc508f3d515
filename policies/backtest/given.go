package backtest

import (
	"fmt"
	"time"

	"github.com/callgate/callgate/policies"
)

// givenPrefix begins the names of grants that were given while the service ran.
const givenPrefix = "grt_"

// Given is a grant for the time in which it was in force: from when it was
// given until it was taken back, if it was. It says so in its condition, since
// grants that are in force have no beginning.
func Given(g policies.Grant, from, revoked time.Time) policies.Grant {
	if !revoked.IsZero() && (g.Until.IsZero() || revoked.Before(g.Until)) {
		g.Until = revoked
	}
	if from.IsZero() {
		return g
	}
	when := fmt.Sprintf("now >= timestamp(%q)", from.UTC().Format(time.RFC3339Nano))
	if g.When != "" {
		when += " && (" + g.When + "\n)" // it may end in a comment
	}
	g.When = when
	return g
}
