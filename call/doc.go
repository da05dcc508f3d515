// Package call is the vocabulary of Callgate: what a function call is, who
// makes it, what was decided about it and what became of it.
//
// It holds plain data and imports no other package of the project, so that
// every room can speak it. Nothing in it may carry a credential: an [Event]
// is written to disk and to ClickHouse as it is.
package call
