package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// deepest bounds how far objects and lists stand inside each other.
const deepest = 32

var errAmbiguous = errors.New("it is not one JSON object with each name once")

// onlyOnce reads a JSON object in which no name stands twice, at any depth, and
// after which nothing follows.
func onlyOnce(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errAmbiguous
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, errAmbiguous
	}
	if err := names(dec, 1); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errAmbiguous
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, errAmbiguous
	}
	return out, nil
}

// names checks the members of an object whose brace was just read.
func names(dec *json.Decoder, depth int) error {
	if depth > deepest {
		return errAmbiguous
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok || seen[name] {
			return errAmbiguous
		}
		seen[name] = true
		if err := value(dec, depth); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func value(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	if err != nil {
		return errAmbiguous
	}
	switch t {
	case json.Delim('{'):
		return names(dec, depth+1)
	case json.Delim('['):
		if depth+1 > deepest {
			return errAmbiguous
		}
		for dec.More() {
			if err := value(dec, depth+1); err != nil {
				return err
			}
		}
		_, err := dec.Token()
		return err
	}
	return nil
}
