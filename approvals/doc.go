// Package approvals keeps calls waiting for people and takes their decisions.
//
// A [Service] holds a call: it writes down exactly what was asked for, waits,
// and answers with what became of it. An approval is bound to the caller, the
// function, the bytes of the request and the policy version
// ([call.Call.Binding]), passes one call once, and expires.
//
// Everything that must be so once only (one decision, one use, an end) is an
// atomic step of the [Store], because the decider, the waiting replica and
// the sweeper may be three processes. The package sqlite keeps holds in a
// file; storetest is the suite that every store must pass.
package approvals
