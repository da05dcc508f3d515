package policies

import (
	"slices"

	"github.com/callgate/callgate/call"
)

// mcpStream is how an MCP server's own stream is called as a function. A client
// that resumes an answer there (Last-Event-ID) gets what other calls are owed,
// and which ones can't be told.
const mcpStream = "session/stream"

func streams(c *call.Call) bool { return c.Protocol == call.MCP && c.Function == mcpStream }

// hideAll makes a stream's mask of what any call of the connection could have to
// hide, whatever its function and arguments.
func (s *Set) hideAll(conn *index, c *call.Call, ruling call.Ruling) call.Ruling {
	if !streams(c) || ruling.Action == call.ActionDeny {
		return ruling
	}
	var list []*rule
	for _, ix := range []*index{&s.everywhere, conn} {
		list = append(append(list, ix.any...), ix.globs...)
		for _, some := range ix.exact {
			list = append(list, some...)
		}
	}
	slices.SortFunc(list, func(a, b *rule) int { return a.at - b.at })
	ruling.Mask = call.Mask{}
	for _, r := range slices.Compact(list) {
		if r.action == Mask && !r.shadow {
			ruling.Mask.Rules = append(ruling.Mask.Rules, r.mask)
		}
	}
	return ruling
}
