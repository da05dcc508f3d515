package extauthz

import (
	"net/http"
	"strings"

	"github.com/callgate/callgate/call"
)

// unconditional refuses a request whose answer would tell whether the caller knows
// an entity tag, where responses are masked: tags are made of what masks hide, and
// are not given out there, so that who has one has guessed it or has it from
// somebody else. "*" asks only whether there is anything. A GET goes on without
// its condition (see remove), and has the whole answer.
func (d *decision) unconditional() *denied {
	r := &d.call.Request
	name := "if-match"
	asks := entityTags(r.Headers, name)
	if !asks && r.Method != http.MethodGet && r.Method != http.MethodHead {
		name = "if-none-match"
		asks = entityTags(r.Headers, name)
	}
	if !asks {
		return nil
	}
	return deny(call.ReasonMalformedRequest, "%s names an entity tag, and none is given out where responses are masked; leave it out, or ask for \"*\"", name)
}

// entityTags reports whether a condition names tags (RFC 9110 §13.1).
func entityTags(h call.Headers, name string) bool {
	values := h.Values(name)
	return len(values) > 1 || len(values) == 1 && strings.TrimSpace(values[0]) != "*"
}
