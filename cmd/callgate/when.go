package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseWhen reads a point in time: how long ago ("90s", "2h", "1d", "1w"), a
// date, or a time with its zone (RFC 3339).
func parseWhen(s string, now time.Time) (time.Time, error) {
	if ago, ok := parseAgo(s); ok {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write how long ago (90s, 2h, 1d, 1w), a date (2026-01-31, in UTC) or a time (2026-01-31T08:00:00Z)", s)
}

func parseAgo(s string) (time.Duration, bool) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseFloat(number, 64)
			// A century bounds what a duration would overflow at.
			if err != nil || !(n >= 0 && n*float64(length) <= float64(100*365*24*time.Hour)) {
				return 0, false
			}
			return time.Duration(n * float64(length)), true
		}
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}
