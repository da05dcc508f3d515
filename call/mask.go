package call

import "slices"

// Mask is what must be hidden in a call's response. It is plain data because
// it travels in Envoy's dynamic metadata from the replica that decided to the
// replica that masks.
type Mask struct {
	Rules []MaskRule `json:"rules,omitempty"`
}

// MaskRule is one thing to hide. All its fields but For have the same names and
// types as extproc/mask.Rule's.
type MaskRule struct {
	Name   string   `json:"name"`
	Paths  []string `json:"paths,omitempty"`  // JSON or message field paths, wildcards allowed
	Keys   []string `json:"keys,omitempty"`   // key names anywhere, whatever their case
	Detect []string `json:"detect,omitempty"` // detectors: card, email, iban, ssn, secret
	How    string   `json:"how,omitempty"`    // redact, partial, hash, drop
	// For says otherwise for some callers; the first that fits decides. It is
	// applied before the mask travels.
	For []MaskFor `json:"-"`
}

// MaskFor is how a mask applies to some callers. All that it names must fit, and
// one that names nothing fits nobody.
type MaskFor struct {
	Callers Approvers // groups of the subject, or the subject itself
	// Actors are those who may see what the subject may, acting for it. An
	// agent that is not among them does not get what its subject's groups get.
	Actors []string
	// BreakGlass asks for a call that broke the glass.
	BreakGlass bool
	How        string // as MaskRule.How, or Show
}

// Show is the How of a mask that hides nothing from somebody.
const Show = "show"

// mildness orders what a caller still sees, from nothing to all.
var mildness = []string{"drop", "redact", "hash", "token", "partial", Show}

// For is the mask as it applies to a call of who's that was decided as d. relaxed
// names the rules that hide less from it than they do otherwise, and how; own
// tells whether it differs from m at all.
func (m Mask) For(who Identity, d Decision) (out Mask, relaxed []string, own bool) {
	for i, r := range m.Rules {
		how, fits := r.how(who, d)
		if !fits || how == r.How {
			if own {
				out.Rules = append(out.Rules, r)
			}
			continue
		}
		if !own {
			own = true
			out.Rules = slices.Clone(m.Rules[:i])
		}
		if slices.Index(mildness, how) > slices.Index(mildness, r.How) {
			relaxed = append(relaxed, r.Name+": "+how)
		}
		if how != Show {
			r.How = how
			out.Rules = append(out.Rules, r)
		}
	}
	if !own {
		return m, nil, false
	}
	return out, relaxed, true
}

func (r *MaskRule) how(who Identity, d Decision) (string, bool) {
	for _, f := range r.For {
		if f.fits(who, d) {
			return f.How, true
		}
	}
	return "", false
}

func (f *MaskFor) fits(who Identity, d Decision) bool {
	named := len(f.Callers.Groups)+len(f.Callers.People) > 0
	if !named && !f.BreakGlass {
		return false
	}
	if f.BreakGlass && d.Reason != ReasonBreakGlass {
		return false
	}
	if named && !f.Callers.Include(who) {
		return false
	}
	for _, a := range who.Actors { // each of the chain sees it
		if (OfIssuer(a.Subject) || !slices.Contains(f.Actors, a.Subject)) && (a.Issuer == "" || !slices.Contains(f.Actors, a.Issuer+"|"+a.Subject)) {
			return false
		}
	}
	return true
}
