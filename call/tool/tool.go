// Package tool is the definition of an MCP tool as a thing that can be pinned:
// one canonical text, its hash, and what differs between two of them.
//
// A definition is what a model reads before it decides what to call, so whoever
// can change it unseen can tell the model what to do ("tool poisoning", "rug
// pull"). All of an entry of tools/list counts, whatever its members are called:
// a client may show any of them to its model.
package tool

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on a definition, which a server chooses.
const (
	MaxSize  = 256 << 10 // bytes
	MaxDepth = 64        // objects and lists inside each other
	MaxName  = 256       // bytes
	MaxTools = 4096      // of a server
	MaxTotal = 3 << 20   // bytes, of a server's definitions together
)

// Definition is one tool as its server describes it.
type Definition struct {
	Name string
	// Text is the definition as JSON with its members in order and no space
	// between them, so that equal definitions have equal texts.
	Text json.RawMessage
	// Hash is the SHA-256 of Text, in hexadecimal.
	Hash string
}

// Read takes an entry of a tools/list result. What two readers could take for
// two different definitions (a member twice, invalid UTF-8) is an error.
func Read(entry []byte) (Definition, error) {
	if len(entry) > MaxSize {
		return Definition{}, fmt.Errorf("the definition is over %d bytes", MaxSize)
	}
	if !utf8.Valid(entry) {
		return Definition{}, errors.New("the definition is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(entry))
	dec.UseNumber()
	v, err := value(dec, 0)
	if err != nil {
		return Definition{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Definition{}, errors.New("something stands behind the definition")
	}
	members, ok := v.(map[string]any)
	if !ok {
		return Definition{}, errors.New("the definition is not an object")
	}
	name, _ := members["name"].(string)
	if name == "" || len(name) > MaxName || strings.ContainsFunc(name, unicode.IsControl) {
		return Definition{}, fmt.Errorf("the definition has no name of 1 to %d bytes without control characters", MaxName)
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // sorts members
		return Definition{}, fmt.Errorf("write the definition: %w", err)
	}
	d := Definition{Name: name, Text: bytes.TrimSpace(text.Bytes())}
	sum := sha256.Sum256(d.Text)
	d.Hash = hex.EncodeToString(sum[:])
	return d, nil
}

// value reads one JSON value and refuses names that stand twice in an object.
func value(dec *json.Decoder, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("the definition is nested deeper than %d", MaxDepth)
	}
	t, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("the definition is not JSON: %w", err)
	}
	switch t {
	case json.Delim('{'):
		out := map[string]any{}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, fmt.Errorf("the definition is not JSON: %w", err)
			}
			key, _ := k.(string)
			if _, twice := out[key]; twice {
				return nil, fmt.Errorf("member %s stands twice in the definition", Visible(key))
			}
			if out[key], err = value(dec, depth+1); err != nil {
				return nil, err
			}
		}
		return out, closed(dec)
	case json.Delim('['):
		out := []any{}
		for dec.More() {
			v, err := value(dec, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, closed(dec)
	}
	return t, nil
}

// closed reads the end of an object or a list.
func closed(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("the definition is not JSON: %w", err)
	}
	return nil
}

// InputSchema is the JSON Schema of the tool's arguments; nil where it has none.
func (d Definition) InputSchema() json.RawMessage {
	// By exact name: a struct would take inputschema for it as well.
	var members map[string]json.RawMessage
	if json.Unmarshal(d.Text, &members) != nil {
		return nil
	}
	return members["inputSchema"]
}
