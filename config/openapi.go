package config

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// importOpenAPI adds the operations of an OpenAPI 3 document to a connection's
// functions, with their schemas. Functions that stand in the configuration keep
// their place; one that matches the same requests as an operation replaces it.
func (c *Connection) importOpenAPI(data []byte) error {
	loader := openapi3.NewLoader() // which follows no reference to elsewhere
	doc, err := loader.LoadFromData(data)
	if err != nil {
		return fmt.Errorf("is not an OpenAPI 3 document: %w", err)
	}
	if err := doc.Validate(loader.Context, openapi3.DisableExamplesValidation(), openapi3.DisableSchemaDefaultsValidation(), openapi3.DisableSchemaPatternValidation()); err != nil {
		return fmt.Errorf("is not a valid OpenAPI 3 document: %w", err)
	}
	known := map[string]bool{}
	for _, f := range c.Functions {
		known[f.Method+" "+shape(f.Path)] = true
	}
	defs, err := definitions(doc)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	var paths []string
	if doc.Paths != nil {
		paths = doc.Paths.InMatchingOrder()
	}
	sort.Strings(paths)
	for _, path := range paths {
		item := doc.Paths.Value(path)
		operations := item.Operations()
		methods := make([]string, 0, len(operations))
		for m := range operations {
			methods = append(methods, m)
		}
		sort.Strings(methods)
		for _, method := range methods {
			if !slices.Contains([]string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, http.MethodHead, http.MethodOptions}, method) {
				continue
			}
			op := operations[method]
			f := Function{Name: op.OperationID, Method: method, Path: path}
			set(&f.Name, method+" "+path)
			switch {
			case known[method+" "+shape(path)]:
				continue
			case names[f.Name]:
				return fmt.Errorf("has two operations called %q", f.Name)
			}
			names[f.Name] = true
			if f.Schema, err = argumentsOf(item, op, defs); err != nil {
				return fmt.Errorf("operation %q: %w", f.Name, err)
			}
			c.Functions = append(c.Functions, f)
		}
	}
	return nil
}

// shape is a path template with its parameters' names left out.
func shape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "{") && strings.HasSuffix(p, "}") {
			parts[i] = "{}"
		}
	}
	return strings.Join(parts, "/")
}

// definitions are the document's schemas, as JSON Schema has them.
func definitions(doc *openapi3.T) (map[string]any, error) {
	out := map[string]any{}
	if doc.Components == nil {
		return out, nil
	}
	for name, s := range doc.Components.Schemas {
		v, err := jsonSchema(s)
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

// jsonSchema turns a schema of OpenAPI 3.0 or 3.1 into one of JSON Schema
// 2020-12, with references to $defs.
func jsonSchema(s *openapi3.SchemaRef) (any, error) {
	if s == nil {
		return map[string]any{}, nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return modern(v), nil
}

// modern rewrites what OpenAPI 3.0 spells otherwise.
func modern(v any) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = modern(x[i])
		}
	case map[string]any:
		if ref, ok := x["$ref"].(string); ok {
			return map[string]any{"$ref": "#/$defs/" + strings.TrimPrefix(ref, "#/components/schemas/")}
		}
		if x["nullable"] == true {
			if t, ok := x["type"].(string); ok {
				x["type"] = []any{t, "null"}
			}
		}
		for flag, bound := range map[string]string{"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"} {
			if exclusive, ok := x[flag].(bool); ok {
				delete(x, flag)
				if exclusive && x[bound] != nil {
					x[flag] = x[bound]
					delete(x, bound)
				}
			}
		}
		for _, mere := range []string{"nullable", "discriminator", "xml", "externalDocs", "example", "readOnly", "writeOnly", "deprecated", "description", "title", "default"} {
			if _, named := x[mere].(map[string]any); mere != "default" && named && mere != "xml" && mere != "externalDocs" && mere != "discriminator" && mere != "example" {
				continue // a property of that name
			}
			delete(x, mere)
		}
		for k, e := range x {
			if k == "properties" {
				if properties, ok := e.(map[string]any); ok {
					for name, p := range properties {
						properties[name] = modern(p)
					}
					continue
				}
			}
			if k != "enum" && k != "const" {
				x[k] = modern(e)
			}
		}
	}
	return v
}

// argumentsOf is the schema of an operation's arguments: the parameters of path
// and query, which arrive as texts, and the fields of the body.
func argumentsOf(item *openapi3.PathItem, op *openapi3.Operation, defs map[string]any) (any, error) {
	properties, required := map[string]any{}, []any{}
	for _, list := range []openapi3.Parameters{item.Parameters, op.Parameters} {
		for _, ref := range list {
			p := ref.Value
			if p == nil || p.In != "path" && p.In != "query" {
				continue
			}
			properties[p.Name] = asText(p.Schema)
			if p.Required && !slices.Contains(required, any(p.Name)) {
				required = append(required, p.Name)
			}
		}
	}
	out := map[string]any{"type": "object", "properties": properties}
	closed := true
	if op.RequestBody != nil && op.RequestBody.Value != nil {
		body := op.RequestBody.Value
		for media, content := range body.Content {
			if media != "application/json" || content.Schema == nil {
				closed = false // of another type, any field may come
				continue
			}
			s, err := jsonSchema(content.Schema)
			if err != nil {
				return nil, err
			}
			resolved := content.Schema.Value
			if resolved == nil || resolved.Type == nil || !resolved.Type.Is("object") || len(resolved.AllOf)+len(resolved.AnyOf)+len(resolved.OneOf) > 0 {
				closed = false
				if resolved != nil && resolved.Type != nil && !resolved.Type.Is("object") {
					properties["body"] = s // what is no object is the argument "body"
				} else if len(body.Content) == 1 {
					out["allOf"] = []any{s}
				}
				continue
			}
			for name, p := range resolved.Properties {
				v, err := jsonSchema(p)
				if err != nil {
					return nil, err
				}
				properties[name] = v
			}
			if body.Required {
				for _, name := range resolved.Required {
					required = append(required, name)
				}
			}
			if resolved.AdditionalProperties.Has == nil || *resolved.AdditionalProperties.Has {
				closed = false
			}
		}
	}
	if len(required) > 0 {
		out["required"] = required
	}
	if closed {
		out["additionalProperties"] = false
	}
	if len(defs) > 0 {
		out["$defs"] = defs
	}
	return out, nil
}

// asText is a parameter's schema for what arrives: a text, or a list of them
// where it came more than once.
func asText(ref *openapi3.SchemaRef) any {
	if ref == nil || ref.Value == nil || ref.Value.Type == nil {
		return map[string]any{}
	}
	s := ref.Value
	text := map[string]any{"type": "string"}
	switch {
	case s.Type.Is("integer"):
		text["pattern"] = "^-?[0-9]+$"
	case s.Type.Is("number"):
		text["pattern"] = "^-?[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]+)?$"
	case s.Type.Is("boolean"):
		text["enum"] = []any{"true", "false"}
	case s.Type.Is("array"):
		return map[string]any{"anyOf": []any{text, map[string]any{"type": "array", "items": text}}}
	case s.Type.Is("string"):
		if len(s.Enum) > 0 {
			text["enum"] = s.Enum
		}
		if s.Pattern != "" {
			text["pattern"] = s.Pattern
		}
		if s.MinLength > 0 {
			text["minLength"] = s.MinLength
		}
		if s.MaxLength != nil {
			text["maxLength"] = *s.MaxLength
		}
	default:
		return map[string]any{}
	}
	return text
}
