// Package audit is the trail of what was decided and what became of it.
//
// An event becomes a leaf: canonical bytes that hold the event, and commit to
// its content (bodies, arguments, path) by a salted hash, so that content can be
// erased and the event still be proved. A [Spool] is an append-only log of
// leaves, with the content beside them, on a local disk. [Spool.Append] returns when
// the event is on that disk, so whoever may let a call go on only after its
// record is safe need only wait for it. From there audit/clickhouse ships the
// events, and the spool forgets what has arrived.
//
// The leaves of a spool are those of a Merkle tree (audit/ledger), which grows as
// records become durable. A [Signer] signs it every few seconds: from then on no
// record before that point can be changed, removed or put in without its being
// seen.
//
// # Files of a spool
//
//	spool.id                  the spool's random id; a new one means a new log
//	tree                      the Merkle tree of a while ago; it grows again from the segments
//	lock                      held by the process that has the spool open
//	00000000000000000000.log  a segment, named by the index of its first record
//	….log.damaged             a shipped segment in which records were unreadable
//
// A segment is a header of 64 bytes and then records, each padded to eight
// bytes:
//
//	 0  uint32  length of the payload
//	 4  uint32  CRC-32C of the payload
//	 8  uint64  index of the record in the log
//	16  uint32  position of the record in the batch that one sync made durable
//	20  uint32  CRC-32C of the 20 bytes before, seeded from spool and segment
//	24  payload
//
// Integers are little-endian. The seed keeps a caller from planting a record
// inside a body; the position in the batch tells a torn write, which nobody
// was told had succeeded, from damage to records that were acknowledged.
package audit
