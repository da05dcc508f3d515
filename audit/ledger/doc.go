// Package ledger makes an append-only log provable: a Merkle tree over its
// leaves (RFC 6962 §2.1), checkpoints that commit to the tree and are signed
// (C2SP tlog-checkpoint and signed-note, Ed25519), proofs that a leaf is in the
// tree (C2SP tlog-proof), and the keys.
//
// It knows nothing of what the leaves mean or where they are kept.
package ledger
