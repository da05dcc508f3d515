package e2e

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// After all other tests: Envoy refused nothing, every decided call has its one
// row, and no token, service credential or card number stands anywhere but in
// requests' own bodies.
func TestZNothingLeaked(t *testing.T) {
	metrics, err := getText(t, "http://"+shared.Addrs.Metrics+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(metrics, "\ncallgate_xds_refused_total 0\n") {
		t.Error("Envoy refused a configuration")
	}
	if rows := shared.query(t, "SELECT call_id, count() AS n FROM calls GROUP BY call_id HAVING n != 1"); len(rows) > 0 {
		t.Errorf("calls with more than one row: %v", rows)
	}
	secrets := map[string]string{"alice's token": shared.alice, "bob's token": shared.bob, "the agent's token": shared.agent,
		"a CI token": shared.ci, "a stale token": shared.stale, "a cookie": "secret-of-alice", "a card": "4242 4242 4242 4242"}
	for _, e := range shared.Environment() {
		name, value, _ := strings.Cut(e, "=")
		secrets[name] = value
	}
	logs := shared.logs.String() + metrics
	for what, secret := range secrets {
		if strings.Contains(logs, secret) {
			t.Errorf("%s is in the log or the metrics", what)
		}
	}
	err = filepath.WalkDir(shared.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // merged away by the engine meanwhile
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for what, secret := range secrets {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s is in %s", what, strings.TrimPrefix(path, shared.dir))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The engine compresses its files, so its tables are asked.
	for _, table := range []string{"calls", "events"} {
		columns := shared.query(t, "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '"+table+"' AND type LIKE '%String%'")
		if len(columns) == 0 {
			t.Fatalf("no columns in %s", table)
		}
		for what, secret := range secrets {
			var any []string
			for _, c := range columns {
				any = append(any, "position(toString(`"+c["name"].(string)+"`), '"+secret+"') > 0")
			}
			if rows := shared.query(t, "SELECT count() AS n FROM "+table+" WHERE "+strings.Join(any, " OR ")); rows[0]["n"].(float64) != 0 {
				t.Errorf("%s is in table %s", what, table)
			}
		}
	}
}

func getText(t *testing.T, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}
