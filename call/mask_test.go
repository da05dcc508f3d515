package call

import (
	"slices"
	"strings"
	"testing"
)

func TestMaskFor(t *testing.T) {
	const idp = "https://idp"
	finance := MaskFor{Callers: Approvers{Groups: []string{"finance"}}, How: "partial"}
	support := MaskFor{Callers: Approvers{Groups: []string{"support"}}, How: "drop"}
	ann := MaskFor{Callers: Approvers{People: []string{idp + "|ann"}}, How: Show}
	helped := MaskFor{Callers: finance.Callers, Actors: []string{"bot", idp + "|relay"}, How: "partial"}
	glass := MaskFor{BreakGlass: true, How: Show}
	glassed := MaskFor{Callers: finance.Callers, BreakGlass: true, How: Show}
	who := func(subject string, groups ...string) Identity {
		return Identity{Issuer: idp, Subject: subject, Kind: Human, Groups: groups}
	}
	by := func(i Identity, actors ...Actor) Identity { i.Actors = actors; return i }
	broke := Decision{Outcome: Allow, Reason: ReasonBreakGlass}
	for _, c := range []struct {
		name string
		fors []MaskFor
		who  Identity
		d    Decision
		want string // how; empty: not at all
	}{
		{"nobody in particular", []MaskFor{finance, support}, who("joe"), Decision{}, "redact"},
		{"finance", []MaskFor{finance, support}, who("joe", "finance"), Decision{}, "partial"},
		{"support", []MaskFor{finance, support}, who("joe", "support"), Decision{}, "drop"},
		{"the first that fits", []MaskFor{support, finance}, who("joe", "finance", "support"), Decision{}, "drop"},
		{"a group in another case", []MaskFor{finance}, who("joe", "Finance"), Decision{}, "redact"},
		{"a person", []MaskFor{ann}, who("ann"), Decision{}, ""},
		{"a namesake elsewhere", []MaskFor{ann}, Identity{Issuer: "https://other", Subject: "ann"}, Decision{}, "redact"},
		{"nobody", []MaskFor{finance}, Identity{}, Decision{}, "redact"},
		{"an agent for finance", []MaskFor{finance}, by(who("joe", "finance"), Actor{idp, "bot"}), Decision{}, "redact"},
		{"an agent that may", []MaskFor{helped}, by(who("joe", "finance"), Actor{idp, "bot"}), Decision{}, "partial"},
		{"an agent that may, behind one that may not", []MaskFor{helped}, by(who("joe", "finance"), Actor{idp, "bot"}, Actor{idp, "x"}), Decision{}, "redact"},
		{"both may", []MaskFor{helped}, by(who("joe", "finance"), Actor{idp, "bot"}, Actor{idp, "relay"}), Decision{}, "partial"},
		{"an actor that is spelt like another issuer's", []MaskFor{{Callers: Approvers{Groups: []string{"finance"}}, Actors: []string{idp + "|relay"}, How: "partial"}}, by(who("joe", "finance"), Actor{"https://other", idp + "|relay"}), Decision{}, "redact"},
		{"an actor of another issuer", []MaskFor{helped}, by(who("joe", "finance"), Actor{"https://other", "relay"}), Decision{}, "redact"},
		{"the glass is whole", []MaskFor{glass}, who("joe"), Decision{Outcome: Allow, Reason: ReasonRule}, "redact"},
		{"the glass is broken", []MaskFor{glass}, who("joe"), broke, ""},
		{"the glass is broken by another", []MaskFor{glassed}, who("joe", "support"), broke, "redact"},
		{"the glass is broken by one of them", []MaskFor{glassed}, who("joe", "finance"), broke, ""},
		{"names nothing", []MaskFor{{How: Show}}, who("joe"), broke, "redact"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Mask{Rules: []MaskRule{{Name: "mail", How: "hash"}, {Name: "cards", How: "redact", For: c.fors}, {Name: "keys", How: "drop"}}}
			got, relaxed, own := m.For(c.who, c.d)
			var hows []string
			for _, r := range got.Rules {
				hows = append(hows, r.Name+" "+r.How)
			}
			want := []string{"mail hash", "cards " + c.want, "keys drop"}
			if c.want == "" {
				want = []string{"mail hash", "keys drop"}
			}
			if !slices.Equal(hows, want) || own != (c.want != "redact") {
				t.Errorf("hides %v, own %v", hows, own)
			}
			tell := ""
			switch c.want {
			case "partial":
				tell = "cards: partial"
			case "":
				tell = "cards: show"
			}
			if strings.Join(relaxed, ",") != tell {
				t.Errorf("tells %q", relaxed)
			}
			if m.Rules[1].How != "redact" || len(m.Rules) != 3 {
				t.Error("the mask itself was changed")
			}
		})
	}
}
