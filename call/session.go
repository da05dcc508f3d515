package call

import "fmt"

// MaxSession bounds what a header may say of a session, in bytes.
const MaxSession = 256

// SessionIn is the session that a header names, which a connection may be told to
// go by; "" where the call has no such header. What could be read in two ways, or
// written to a log in another, is an error.
func (h Headers) SessionIn(header string) (string, error) {
	values := h.Values(header)
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", fmt.Errorf("header %s, which names the session, stands more than once", header)
	case values[0] == "" || len(values[0]) > MaxSession:
		return "", fmt.Errorf("header %s, which names the session, must have 1 to %d bytes", header, MaxSession)
	}
	for _, b := range []byte(values[0]) {
		if b <= ' ' || b >= 0x7f {
			return "", fmt.Errorf("header %s, which names the session, may have visible ASCII alone", header)
		}
	}
	return values[0], nil
}

// BelongTo sets the session that a call belongs to: the one that a header names,
// the protocol's own, the token's, or the trace.
func (c *Call) BelongTo(named, own string) {
	sid, _ := c.Identity.Claims["sid"].(string)
	c.SessionName = named
	for _, s := range []string{named, own, sid, c.Request.TraceID} {
		if c.Session = s; s != "" {
			return
		}
	}
}
