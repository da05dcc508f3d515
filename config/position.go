package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// FunctionPosition is where the i-th of a connection's functions stands.
func (c Connection) FunctionPosition(i int) Position {
	if at, ok := c.at[fmt.Sprintf("functions[%d]", i)]; ok {
		return at
	}
	return c.Position
}

// IsTestFile reports whether a file holds tests of a policy, by its name. Such
// files lie beside the rules and are no part of the policy.
func IsTestFile(path string) bool {
	name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".yaml"), ".yml")
	return name != filepath.Base(path) && strings.HasSuffix(name, "_test")
}

// Said is what a connection says wherever its files lie: the files that it names
// are told by their names as written, and by hashes of their content.
func (c Connection) Said() Connection {
	c.Functions = slices.Clone(c.Functions)
	for _, path := range c.references() {
		if written, known := c.written[*path]; known {
			*path = written
		}
	}
	return c
}

// MaskPosition is where the i-th of a connection's masks stands.
func (c Connection) MaskPosition(i int) Position {
	if at, ok := c.at[fmt.Sprintf("mask[%d]", i)]; ok {
		return at
	}
	return c.Position
}

// OriginalsPosition is where the connection says for whom originals are kept.
func (c Connection) OriginalsPosition() Position {
	if at, ok := c.at["record.originals"]; ok {
		return at
	}
	return c.Position
}

// EventTextsPosition is where the connection says which texts go over several
// events.
func (c Connection) EventTextsPosition() Position {
	if at, ok := c.at["event_texts"]; ok {
		return at
	}
	return c.Position
}

// MaskPosition is where a rule's mask stands.
func (r Rule) MaskPosition() Position {
	if at, ok := r.at["mask"]; ok {
		return at
	}
	return r.Position
}
