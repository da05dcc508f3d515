package main

import "context"

func benchTrail(ctx context.Context) ([]row, error) { return benchShip(ctx) }
