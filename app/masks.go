package app

import (
	"errors"
	"fmt"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/extproc/mask"
)

// checkMasks finds masks that could not be applied: without this they would be
// found out by responses that are withheld.
func checkMasks(p config.Policy) error {
	var errs config.Errors
	check := func(at config.Position, of string, m config.Mask) {
		_, err := mask.Compile(mask.Spec{Rules: []mask.Rule{mask.Rule(m)}}, mask.Options{HashKey: make([]byte, 32)})
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
