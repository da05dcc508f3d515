// Package mask finds what a policy hides in the bytes a function returns, and
// rewrites exactly those bytes: pure computation, no I/O and no clock, but
// for what analyzers do that the caller brings.
//
// A [Spec] is plain data that travels with the call. [Compile] turns it into a
// [Masker], which is immutable and safe for concurrent use; it is worth caching
// by the spec's bytes. A Masker hides by three kinds of rule: field paths, key
// names, and detectors that recognise a value by its form and checksum.
//
// # How it works
//
// Bodies are never decoded and encoded again. [Body] masks JSON and text that
// arrive in chunks, [Stream] events and lines, [CSV] tables; [Masker.Whole] masks
// a body of any type that is at hand. JSON is walked token by token
// (json.go) and every hit becomes an edit, a range of the original bytes and
// its replacement (edit.go), so that what is not hidden leaves byte for byte as
// it came: number spelling, key order, white space and escapes included.
//
// Values are recognised in a folded view of the text (fold.go): escapes are
// resolved, digits of every script become ASCII, exotic spaces and dashes
// become ' ' and '-', invisible characters vanish. Each view remembers where
// its bytes came from, so an edit found three levels deep in JSON inside JSON
// strings is mapped back to the bytes on the wire.
//
// All detectors share one pass (scan.go): a 256-entry class table (engine.go) decides
// per byte whether anything can start there, numbers are read once for all detectors
// of numbers (detect_digits.go), and literals (literals.go) guard the regular
// expressions of secrets.go and gitleaks.go. What one detector refuses is still
// looked at by the others. What a name says of its value (names.go) is worked out
// once per name. A string that is nothing but itself takes a short way
// (walker.plainString). Work is linear in the input; every look back and look ahead
// is bounded or advances the scan.
//
// # What fails closed
//
// [Masker.JSON] refuses what is not exactly one JSON document in UTF-8, what is
// nested deeper than [Options].MaxDepth, and JSON nested in strings deeper than
// [Options].MaxNested. [Stream] refuses an event or line above its limit. The
// caller withholds the response on any error. Errors carry offsets and reasons,
// never bytes of the body.
//
// # What it can't know
//
// Field paths do not apply to text that is not JSON; [Masker.HasPaths] lets the
// caller refuse such a response. Key names do apply to text, wherever it says
// name=value or name: value.
package mask
