package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const petstore = `openapi: 3.0.3
info: {title: pets, version: "1"}
servers: [{url: https://pets.example/v1}]
paths:
  /pets:
    get:
      operationId: pets.list
      parameters:
        - {name: limit, in: query, schema: {type: integer}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
        - {name: X-Trace, in: header, schema: {type: string}}
      responses: {"200": {description: ok}}
    post:
      operationId: pets.create
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: "#/components/schemas/Pet"}}}
      responses: {"201": {description: ok}}
  /pets/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
    delete:
      responses: {"204": {description: ok}}
components:
  schemas:
    Pet:
      type: object
      additionalProperties: false
      required: [name]
      properties:
        name: {type: string, maxLength: 10, nullable: true, description: what it is called}
        age: {type: number, minimum: 0, exclusiveMinimum: true}
        parent: {$ref: "#/components/schemas/Pet"}
        description: {type: string}
`

func TestOpenAPI(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pets.yaml.txt", petstore)
	pol, err := CheckPolicy(write(t, dir, "p.yaml", "connections:\n  - {name: pets, protocol: http, upstream: {url: 'http://127.0.0.1:1'}, openapi: pets.yaml.txt}\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := pol.Connections[0]
	var got []string
	for _, f := range c.Functions {
		got = append(got, f.Name+" = "+f.Method+" "+f.Path)
	}
	if want := "pets.list = GET /pets, pets.create = POST /pets, DELETE /pets/{id} = DELETE /pets/{id}"; strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if !*c.Validate {
		t.Error("what was imported is not validated")
	}
	text, err := c.Functions[1].SchemaText()
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]map[string]any
		Required   []string
		Additional any            `json:"additionalProperties"`
		Defs       map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(s.Properties["name"]["type"]) != "[string null]" || s.Properties["age"]["exclusiveMinimum"] != 0.0 || s.Properties["parent"]["$ref"] != "#/$defs/Pet" ||
		s.Additional != false || len(s.Required) != 1 || s.Defs["Pet"] == nil || s.Properties["description"] == nil {
		t.Errorf("%s", text)
	}
	for change, want := range map[string]string{
		"openapi: 3.0.3|swagger: '2.0'":                           "is not a valid OpenAPI 3 document",
		"operationId: pets.create|operationId: pets.list":         "pets.list",
		"#/components/schemas/Pet\"}}}|http://127.0.0.1:1/x\"}}}": "openapi",
		"paths:|paths: [": "is not an OpenAPI 3 document",
	} {
		old, new, _ := strings.Cut(change, "|")
		write(t, dir, "pets.yaml.txt", strings.Replace(petstore, old, new, 1))
		if _, err := CheckPolicy(dir + "/p.yaml"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "p.yaml:2") {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
}

func FuzzOpenAPI(f *testing.F) {
	f.Add(petstore)
	f.Add(`{"openapi":"3.1.0","info":{"title":"a","version":"1"},"paths":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var c Connection
		if err := c.importOpenAPI([]byte(text)); err != nil {
			return
		}
		for _, fn := range c.Functions {
			if _, err := fn.SchemaText(); err != nil {
				t.Errorf("%s: %v", fn.Name, err)
			}
		}
	})
}
