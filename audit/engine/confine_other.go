//go:build !linux

package engine

// confine does nothing: the engine runs on Linux only.
func confine(*Config) (bool, error) { return false, nil }
