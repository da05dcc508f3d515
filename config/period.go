package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Period is a long time, written "30d", "12w", or as a duration ("36h"). A day
// has 24 hours.
type Period time.Duration

// ParsePeriod reads a period.
func ParsePeriod(s string) (Period, error) {
	text := strings.TrimSpace(s)
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		number, ok := strings.CutSuffix(text, suffix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && n <= math.MaxInt64/int64(unit) {
			return Period(n) * Period(unit), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return Period(d), nil
	}
	return 0, fmt.Errorf("period %q: want days, weeks or a duration, such as 30d, 12w or 36h", s)
}

// UnmarshalYAML implements [yaml.Unmarshaler].
func (p *Period) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParsePeriod(n.Value)
	*p = v
	return err
}

// String renders the period in days where it is whole ones.
func (p Period) String() string {
	if day := Period(24 * time.Hour); p != 0 && p%day == 0 {
		return strconv.FormatInt(int64(p/day), 10) + "d"
	}
	return time.Duration(p).String()
}
