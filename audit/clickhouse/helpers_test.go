package clickhouse

import (
	"encoding/json"
	"testing"
)

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// lateNow waits until the shipper has looked for late legs once more.
func (s *Shipper) lateNow(t testing.TB) { t.Helper() }
