package call

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Scope is what a narrowed token is good for: connections, each whole or with
// a pattern of functions, where * stands for any characters. As a text it is a
// list with spaces (RFC 6749 §3.3): "crm:refunds.create tools:tools/call%20*".
type Scope []string

const (
	maxScope      = 4096 // bytes of its text
	maxScopeItems = 64
)

var scopeConnection = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// ParseScope reads a scope's text. One that names nothing is an error: it would
// be taken for a token that is not narrowed.
func ParseScope(text string) (Scope, error) {
	if len(text) > maxScope {
		return nil, fmt.Errorf("the scope is longer than %d bytes", maxScope)
	}
	out := Scope(strings.Fields(text))
	switch {
	case len(out) == 0:
		return nil, errors.New("the scope is empty; name connections, such as crm or crm:refunds.create")
	case len(out) > maxScopeItems:
		return nil, fmt.Errorf("the scope names more than %d connections and functions", maxScopeItems)
	}
	for _, item := range out {
		if _, _, err := splitScope(item); err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// splitScope takes an item apart; the pattern is "*" where it has none.
func splitScope(item string) (connection, pattern string, err error) {
	connection, pattern, has := strings.Cut(item, ":")
	if !has {
		pattern = "*"
	}
	if !scopeConnection.MatchString(connection) {
		return "", "", fmt.Errorf("scope %q names no connection; want crm, or crm:refunds.create", item)
	}
	if pattern, err = url.PathUnescape(pattern); err != nil || pattern == "" {
		return "", "", fmt.Errorf("scope %q names no function; write a space as %%20", item)
	}
	return connection, pattern, nil
}

// Narrowed reports whether the scope narrows anything.
func (s Scope) Narrowed() bool { return len(s) > 0 }

// Covers reports whether a call of the function is within the scope.
func (s Scope) Covers(connection, function string) bool {
	if !s.Narrowed() {
		return true
	}
	for _, item := range s {
		c, pattern, err := splitScope(item)
		if err == nil && c == connection && wildcard(pattern, function) {
			return true
		}
	}
	return false
}

// Includes reports whether all that another scope covers is within this one. In
// doubt it is not.
func (s Scope) Includes(other Scope) bool {
	if !s.Narrowed() {
		return true
	}
	if !other.Narrowed() {
		return false
	}
	for _, item := range other {
		c, pattern, err := splitScope(item)
		if err != nil || !slices.ContainsFunc(s, func(own string) bool {
			oc, op, err := splitScope(own)
			// A pattern's own text stands for all that it matches: a star in
			// it is only ever matched by a star that takes any characters.
			return err == nil && oc == c && wildcard(op, pattern)
		}) {
			return false
		}
	}
	return true
}

func (s Scope) String() string { return strings.Join(s, " ") }

// wildcard matches the whole of text against a pattern with stars.
func wildcard(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		at := strings.Index(text, p)
		if at < 0 {
			return false
		}
		text = text[at+len(p):]
	}
	return strings.HasSuffix(text, last)
}
