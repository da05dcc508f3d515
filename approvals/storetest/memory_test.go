package storetest

import (
	"testing"

	"github.com/callgate/callgate/approvals"
)

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		Run(t, func(*testing.T) func(*testing.T) approvals.Store {
			m := NewMemory()
			return func(*testing.T) approvals.Store { return m }
		})
	})
}
