// Package engine runs the embedded ClickHouse engine in a process of its own,
// behind ClickHouse's HTTP interface: clickhouse-go (Protocol: clickhouse.HTTP),
// curl, Grafana and DBeaver talk to it as to a server, and Callgate has one code
// path for both.
//
// The engine is chDB, ClickHouse as a shared library, called without cgo. What
// lies between it and HTTP is here:
//
//   - library, conn: the binding. Loading and connecting replace signal
//     handlers of Go's runtime, which are put back.
//   - session, pool: connections are lent to one statement at a time, and
//     closed when a request has changed their settings, so that nothing of a
//     request reaches the next.
//   - request, statement, body, frames: what a client asks for. An INSERT's
//     data never become part of a statement's text; they are streamed.
//   - handler, reply, handshake: the conversation. Results are streamed; a
//     client that goes away has its statement killed.
//   - config, server: one data directory, one process, a memory cap, inserts
//     that are on disk before they are acknowledged.
//   - confine, main, process: the child process. It can read and write its data
//     directory and read the system's libraries, and can call nobody.
//
// What a server has and this does not: sessions between requests, users and
// roles, external tables, the native protocol, and KILL QUERY by the query_id a
// client chose.
package engine
