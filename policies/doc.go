// Package policies says what the rules think of a call: the rule model, its
// compilation from CEL, and the decision.
//
// A [Set] is compiled as a whole from rules and the connections they speak
// of, or not at all; every fault is reported at once, at its place in the
// file. It is indexed by connection and function, so that a call is judged by
// the rules that concern it and thousands of others cost nothing.
//
// A call is denied unless a rule allows it. The first deny (in file order)
// wins, then the first hold, then the first allow. Rules are asked in that
// order, and a rule that is asked but can't be evaluated denies the call:
// an argument that isn't there must not open a door.
package policies
