// Package control is the control plane's memory and its hand: it keeps every
// policy version with its author, grants and revocations; it makes a version
// decide everywhere or nowhere, and takes one back.
//
// A version is first offered to the decision servers, which compile it; only
// when all that are connected have accepted it does it decide, and only then do
// Envoys get its resources. Until the last Envoy has changed over, the version
// before is at hand for the calls that come through it.
package control
