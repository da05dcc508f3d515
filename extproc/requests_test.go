package extproc

import (
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// A request is masked on its way as it was when it was decided, or goes nowhere.
func TestRequestMasked(t *testing.T) {
	body := `{"card":"` + card + `","n":1}`
	rules := call.Mask{Rules: []call.MaskRule{cards}}
	sent := strings.Replace(body, card, "[redacted:card]", 1)
	meta := func(change func(*call.RequestMask)) *call.Metadata {
		m := decided(call.HTTP)
		m.Request = &call.RequestMask{Mask: rules, Judged: hashOf([]byte(body)), Sent: hashOf([]byte(sent))}
		change(m.Request)
		return m
	}
	for name, tt := range map[string]struct {
		change func(*call.RequestMask)
		body   string
		typed  string
		says   string
	}{
		"masked":            {func(*call.RequestMask) {}, body, "application/json", ""},
		"another body":      {func(*call.RequestMask) {}, body + " ", "application/json", "not the one that was judged"},
		"no body":           {func(*call.RequestMask) {}, "", "application/json", "this has none"},
		"another result":    {func(m *call.RequestMask) { m.Sent = m.Judged }, body, "application/json", "not the one that was recorded"},
		"can't be masked":   {func(*call.RequestMask) {}, body, "image/png", "can't be masked"},
		"mask not readable": {func(m *call.RequestMask) { m.Mask.Rules = []call.MaskRule{{Name: "x", Detect: []string{"nothing"}}} }, body, "application/json", "compile mask"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			p := passageOf(meta(tt.change), tt.body, "{}")
			p.requestHead = append(p.requestHead, "content-type", tt.typed)
			got, req, out := b.through(t, p)
			if tt.says == "" {
				if got != sent || out.err != nil || out.body != "{}" || len(req.GetHeaderMutation().GetSetHeaders()) != 1 || len(req.GetHeaderMutation().GetRemoveHeaders()) == 0 {
					t.Errorf("the function got %q, the caller %+v", got, out)
				}
				return
			}
			if out.immediate == nil || got != "" {
				t.Errorf("the function got %q, the caller %+v", got, out)
			}
			if a := b.one(t); !strings.Contains(a.Withheld, tt.says) {
				t.Errorf("recorded %q", a.Withheld)
			}
		})
	}
}
