// Package clickhouse takes the audit trail from spools to ClickHouse and
// answers questions from there. clickhouse-go is its one way in, whether the
// other side is a server, a cluster or the embedded engine.
//
// # What a call becomes
//
// The spool that holds a call's decided event owns the call's row. Its
// [Shipper] puts every event of the spool into the table events, which is the
// ledger, and joins the answered and finished events of each call that it
// owns. It writes the row into calls once, when all legs that the decided
// event announced are there, or when Config.SettleAfter has passed without
// one, which then reads 'unknown'.
//
// A leg that reached another replica's spool, or that comes after its row was
// written, goes into events with its body and marked as unjoined. The owner
// looks there for what its unsettled calls miss, and completes rows that were
// written without. So any replica may take any leg.
//
// # Exactly once
//
// Before anything is sent, the shipper makes durable what it is about to send:
// a range of events, and the calls that settle with it. All rows of one insert
// lie in one partition and one block, so the insert happens whole or not at
// all. After an outcome that nobody saw, an error or a kill, it asks which of
// these rows are there and sends the rest again under the same deduplication
// token. The token is a hash of the rows' keys, so an insert that is still on
// its way and its repetition can't both succeed.
package clickhouse
