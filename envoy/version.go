package envoy

import (
	"fmt"
	"strconv"
	"strings"
)

// oldest is the oldest release of each supported minor that has its current
// security fixes, newest first.
var oldest = []struct{ minor, patch int }{{40, 0}, {39, 3}, {38, 5}}

// Supported reports why an Envoy of that version ("1.40.0") must not be used,
// or nil.
func Supported(version string) error {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	var n [3]int
	for i := range n {
		if i >= len(parts) {
			return fmt.Errorf("envoy version %q is not of the form 1.40.0", version)
		}
		text, _, _ := strings.Cut(parts[i], "-")
		var err error
		if n[i], err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("envoy version %q is not of the form 1.40.0", version)
		}
	}
	if n[0] != 1 || n[1] > oldest[0].minor {
		return nil // newer than this program; its APIs stay
	}
	for _, o := range oldest {
		switch {
		case n[1] != o.minor:
		case n[2] < o.patch:
			return fmt.Errorf("envoy %s lacks security fixes; use 1.%d.%d or newer", version, o.minor, o.patch)
		default:
			return nil
		}
	}
	return fmt.Errorf("envoy %s is too old: it gets no security fixes, and known holes let requests past ext_authz; use 1.%d.%d or newer",
		version, oldest[len(oldest)-1].minor, oldest[len(oldest)-1].patch)
}
