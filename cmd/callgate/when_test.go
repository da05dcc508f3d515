package main

import (
	"testing"
	"time"
)

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)
	for s, want := range map[string]string{
		"2h": "2026-03-01T23:00:00Z", "1d": "2026-03-01T01:00:00Z", "1.5d": "2026-02-28T13:00:00Z", "1w": "2026-02-23T01:00:00Z", "0s": "2026-03-02T01:00:00Z",
		"2026-01-31": "2026-01-31T00:00:00Z", "2026-01-31T08:00:00+01:00": "2026-01-31T07:00:00Z",
		"": "", "d": "", "-2h": "", "-1d": "", "2": "", "yesterday": "", "1e99d": "", "NaNd": "", "InfD": "", "2026-13-01": "",
	} {
		got, err := parseWhen(s, now)
		if (err != nil) != (want == "") || err == nil && got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q is %v (%v), want %q", s, got, err, want)
		}
	}
}

func FuzzParseWhen(f *testing.F) {
	for _, s := range []string{"2h", "1d", "2026-01-31", "1e9w"} {
		f.Add(s)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseWhen(s, now); err == nil && got.Year() < 0 {
			t.Errorf("%q is %v", s, got)
		}
	})
}
