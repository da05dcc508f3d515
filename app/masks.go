package app

import (
	"errors"
	"fmt"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extproc/mask"
	"github.com/callgate/callgate/extproc/sealed"
)

// checkMasks finds masks that could not be applied, and keys that originals can't
// be sealed for: without this they would be
// found out by responses that are withheld.
func checkMasks(p config.Policy) error {
	var errs config.Errors
	own, made := detectorsOf(p), map[string]*mask.Custom{}
	for _, d := range p.Detectors {
		if mask.Known(d.Name) {
			errs = append(errs, config.Error{Position: d.Place("name"), Message: fmt.Sprintf("detector %q is built in; choose another name", d.Name)})
		}
		c, err := newDetector(d)
		if err != nil {
			errs = append(errs, config.Error{Position: d.Position, Message: fmt.Sprintf("detector %q: %v", d.Name, err)})
			continue
		}
		made[d.Ref()] = c
	}
	if len(errs) > 0 {
		return errs
	}
	check := func(at config.Position, of string, m config.Mask) {
		_, err := mask.Compile(mask.Spec{Rules: []mask.Rule{applied(maskRule(m, own))}}, mask.Options{HashKey: make([]byte, 32), Custom: made})
		var all interface{ Unwrap() []error }
		switch {
		case err == nil:
		case errors.As(err, &all):
			for _, one := range all.Unwrap() {
				errs = append(errs, config.Error{Position: at, Message: fmt.Sprintf("%s: %v", of, one)})
			}
		default:
			errs = append(errs, config.Error{Position: at, Message: fmt.Sprintf("%s: %v", of, err)})
		}
	}
	for _, c := range p.Connections {
		if len(c.Record.Originals) > 0 {
			if err := sealed.CheckRecipients(c.Record.Originals); err != nil {
				errs = append(errs, config.Error{Position: c.OriginalsPosition(), Message: fmt.Sprintf("connection %q: record.originals: %v", c.Name, err)})
			}
		}
		if _, err := mask.Compile(mask.Spec{Texts: c.EventTexts}, mask.Options{}); err != nil {
			errs = append(errs, config.Error{Position: c.EventTextsPosition(), Message: fmt.Sprintf("connection %q: event_texts: %v", c.Name, err)})
		}
		for _, m := range c.MaskRequests {
			check(c.Position, fmt.Sprintf("connection %q: mask_requests", c.Name), m)
		}
		for i, m := range c.Mask {
			check(c.MaskPosition(i), fmt.Sprintf("connection %q", c.Name), m)
		}
	}
	for _, r := range p.Rules {
		if r.Action == "mask" {
			check(r.MaskPosition(), fmt.Sprintf("rule %q", r.Name), r.Mask)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// applied is a mask rule as responses are masked by it.
func applied(r call.MaskRule) mask.Rule {
	return mask.Rule{Name: r.Name, Paths: r.Paths, Keys: r.Keys, Detect: r.Detect, How: r.How}
}
