package lint

import (
	"fmt"

	"github.com/callgate/callgate/call"
)

// people finds who is named without an issuer where there are several.
func (l *linter) people() {
	if len(l.in.Issuers) < 2 {
		return
	}
	for _, p := range l.in.People {
		for _, name := range p.Names {
			if !call.OfIssuer(name) {
				l.add(OfAnyIssuer, Warning, p.Position, p.Subject, fmt.Sprintf("write of which, such as %q", l.in.Issuers[0]+"|"+name),
					"it names %q, which is whoever any of %d issuers calls so", name, len(l.in.Issuers))
			}
		}
	}
}

// counts finds rules that ask for what each of several servers knows for itself.
func (l *linter) counts() {
	if !l.in.Several {
		return
	}
	for _, r := range l.rules {
		if r.Counts() {
			l.add(PerServer, Warning, r.condition(), r.subject(), "take it for a brake on one server, and leave this check out (--ignore per-server)",
				"each decision server counts what it decides itself, since its start: of several a limit holds for each, and a first use is one on each")
		}
	}
}
