package main

import "testing"

func TestPercentOf(t *testing.T) {
	for of, want := range map[[2]uint64]int{
		{0, 0}: 400, {10 << 20, 1 << 20}: 400, {32 << 20, 1 << 20}: 400, {64 << 20, 32 << 20}: 200, {128 << 20, 1 << 20}: 100, {256 << 20, 1 << 20}: 50, {4 << 30, 1 << 20}: 50,
		{80 << 20, 33 << 20}: 50, {160 << 20, 80 << 20}: 25, {4 << 30, 1 << 30}: 25,
	} {
		if got := percentOf(of[0], of[1]); got != want {
			t.Errorf("%d MiB live, %d of it stacks: %d%%, want %d%%", of[0]>>20, of[1]>>20, got, want)
		}
	}
}
