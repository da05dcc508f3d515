// Package config loads Callgate's configuration: one YAML file for the
// process, and connections and rules that may stand in it or in a directory of
// their own and are reloaded while the process runs.
//
// Loading is strict. An unknown key, a wrong type or a value that can't work
// is an error with file, line and column, and all errors of a file are
// reported at once. Nothing here opens a port or contacts anything.
package config
