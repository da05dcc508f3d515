package main

import "testing"

func TestPercentOf(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, waiting uint64
		want          int
	}{
		{0, 0, 400}, {10 * mib, 0, 400}, {32 * mib, 0, 400}, {64 * mib, 0, 200}, {128 * mib, 0, 100}, {256 * mib, 0, 50}, {4096 * mib, 0, 50},
		{16 * mib, 500, 400},
		{30 * mib, 2000, 361}, // 128 MiB less what waits
		{110 * mib, 10_000, 36}, {160 * mib, 10_000, 34}, {550 * mib, 50_000, 27}, {1024 * mib, 10_000, 47},
	} {
		if got := percentOf(c.live, c.waiting); got != c.want {
			t.Errorf("%d MiB live, %d calls wait: %d%%, want %d%%", c.live/mib, c.waiting, got, c.want)
		}
	}
}
