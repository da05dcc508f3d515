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
