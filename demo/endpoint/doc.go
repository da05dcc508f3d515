// Package endpoint has three function endpoints for the demo and the
// end-to-end tests: a REST service, an MCP server and a gRPC service. They
// stand for somebody else's services: they know nothing of Callgate, and each
// demands a credential of its own, so that a call that goes around the gateway,
// or comes through it with the caller's token still on it, is refused.
//
// Each keeps a [Journal] of what reached it, refused or not, for tests that
// must show that something never arrived. What they hold is invented, kept in
// memory, bounded, and lost with the process; card numbers are those that
// payment companies publish for tests.
package endpoint
