package call

import (
	"strings"
	"testing"
)

// What names a session, and what can't. A line more is a case more.
func TestSessions(t *testing.T) {
	for name, c := range map[string]struct {
		header     Headers
		own, sid   string
		trace      string
		want, name string
		bad        string
	}{
		"the header":       {header: Headers{{Name: "x-run", Value: "r-1"}}, own: "m", sid: "s", trace: "t", want: "r-1", name: "r-1"},
		"the protocol's":   {own: "m", sid: "s", trace: "t", want: "m"},
		"the token's":      {sid: "s", trace: "t", want: "s"},
		"the trace":        {trace: "t", want: "t"},
		"none":             {},
		"another header":   {header: Headers{{Name: "x-other", Value: "r-1"}}, trace: "t", want: "t"},
		"twice":            {header: Headers{{Name: "x-run", Value: "r-1"}, {Name: "x-run", Value: "r-1"}}, bad: "more than once"},
		"empty":            {header: Headers{{Name: "x-run", Value: ""}}, bad: "1 to 256 bytes"},
		"long":             {header: Headers{{Name: "x-run", Value: strings.Repeat("a", 257)}}, bad: "1 to 256 bytes"},
		"a line break":     {header: Headers{{Name: "x-run", Value: "a\nb"}}, bad: "visible ASCII"},
		"a space":          {header: Headers{{Name: "x-run", Value: "a b"}}, bad: "visible ASCII"},
		"a letter with an": {header: Headers{{Name: "x-run", Value: "ä"}}, bad: "visible ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			named, err := c.header.SessionIn("x-run")
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) || named != "" {
					t.Errorf("%q, %v", named, err)
				}
				return
			}
			one := Call{Request: Request{TraceID: c.trace}, Identity: Identity{Claims: map[string]any{"sid": c.sid}}}
			one.BelongTo(named, c.own)
			if err != nil || one.Session != c.want || one.SessionName != c.name {
				t.Errorf("%q, %q, %v", one.Session, one.SessionName, err)
			}
		})
	}
}
