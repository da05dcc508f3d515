// Package condition reasons about the conditions of rules: whether one can
// ever be true, and whether it can be true where another is not.
//
// It is right where it says so, and silent where it can't tell. A condition is
// taken apart into its atoms: comparisons of one part of the call with
// constants are understood, and everything else is a thing that is true, false
// or fails, the same each time it is asked of the same call.
//
// What fails is neither true nor false, and a rule that fails denies the call.
// That is why nothing here is ever concluded from something's not being true.
package condition
