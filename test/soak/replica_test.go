//go:build linux

package soak

import (
	"context"

	"github.com/callgate/callgate/config"
)

func (w *world) replicate(context.Context, *config.Config) error { return nil }
