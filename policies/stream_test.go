package policies

import (
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// An answer that is resumed on an MCP server's stream is masked as the call would
// have been, whichever that was.
func TestStreamMasks(t *testing.T) {
	mask := func(name, when string, connections, functions []string, shadow bool) Rule {
		return Rule{Name: name, Action: Mask, When: when, Connections: connections, Functions: functions, Shadow: shadow, Mask: call.MaskRule{Name: name, Detect: []string{"card"}}}
	}
	set, err := Compile([]Rule{
		{Name: "all", Action: Allow},
		mask("exact", "", []string{"tools"}, []string{"tools/call get"}, false),
		mask("glob", "", nil, []string{"tools/call g*"}, false),
		mask("by arguments", `call.args.x == "y"`, []string{"tools"}, nil, false),
		mask("elsewhere", "", []string{"other"}, nil, false),
		mask("in shadow", "", nil, nil, true),
	}, Config{Version: "v", Connections: []Connection{{Name: "tools", Protocol: call.MCP}, {Name: "other", Protocol: call.MCP}}})
	if err != nil {
		t.Fatal(err)
	}
	for function, want := range map[string]string{"session/stream": "exact glob by arguments", "tools/call get": "exact glob by arguments", "tools/call other": "by arguments"} {
		r := set.Decide(t.Context(), &call.Call{Connection: "tools", Protocol: call.MCP, Function: function, Args: map[string]any{"x": "y"}})
		var got []string
		for _, m := range r.Mask.Rules {
			got = append(got, m.Name)
		}
		if r.Action != call.ActionAllow || strings.Join(got, " ") != want {
			t.Errorf("%s: %s %q, want %s", function, r.Action, got, want)
		}
	}
	if r := set.Decide(t.Context(), &call.Call{Connection: "tools", Protocol: call.MCP, Function: "session/stream"}); len(r.Mask.Rules) != 3 || r.Action != call.ActionAllow {
		t.Errorf("%+v", r)
	}
}
