// Package suggest writes the narrowest grants that would have let the observed
// calls of each identity pass: the functions by name, and bounds on what their
// arguments were.
//
// What is seen too seldom, or lies far from all else, is told as not covered:
// a policy must not be widened by a mistake or an attack that once went through.
package suggest
