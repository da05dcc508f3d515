package config

import (
	"strings"
	"testing"
)

func TestFunctionSchema(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "refund.json", `{"type":"object"}`)
	text := `connections:
  - name: crm
    protocol: http
    upstream: {url: "http://127.0.0.1:1"}
    functions:
      - {name: a, method: GET, path: /a, schema: {type: object, properties: {n: {type: integer}}}}
      - {name: b, method: GET, path: /b, schema_file: refund.json}
      - {name: c, method: GET, path: /c}
`
	pol, err := CheckPolicy(write(t, dir, "p.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`{"properties":{"n":{"type":"integer"}},"type":"object"}`, `{"type":"object"}`, ""}
	for i, f := range pol.Connections[0].Functions {
		if got, err := f.SchemaText(); err != nil || string(got) != want[i] {
			t.Errorf("%s: %s, %v", f.Name, got, err)
		}
	}
	for change, want := range map[string]string{
		"schema_file: refund.json, schema: {}": "set schema or schema_file, not both",
		"schema_file: none.json":               "its schema is not JSON",
	} {
		if _, err := CheckPolicy(write(t, dir, "p.yaml", strings.Replace(text, "schema_file: refund.json", change, 1))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", change, err)
		}
	}
}
