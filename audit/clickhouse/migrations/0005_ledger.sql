ALTER TABLE {{table "events"}}
    ADD COLUMN IF NOT EXISTS aside String COMMENT 'Content of an unjoined leg that its leaf commits to: canonical CBOR.' CODEC(ZSTD(3)),
    ADD COLUMN IF NOT EXISTS bodies_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes the content that is kept here.' CODEC(ZSTD(1))
;;
ALTER TABLE {{table "events"}}
    MODIFY COLUMN aside TTL bodies_until,
    MODIFY COLUMN body_head TTL bodies_until,
    MODIFY COLUMN body_tail TTL bodies_until
;;
ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS request_body_sum FixedString(32) COMMENT 'SHA-256 of a request body of which only parts are recorded; zeros else.' CODEC(ZSTD(1)) AFTER request_body_truncated,
    ADD COLUMN IF NOT EXISTS request_salt FixedString(16) COMMENT 'Salt of the ledger''s commitment to arguments, path and request body; zeros once these are deleted.' CODEC(NONE) AFTER request_body_sum,
    ADD COLUMN IF NOT EXISTS response_body_sum FixedString(32) COMMENT 'SHA-256 of a response body of which only parts are recorded; zeros else.' CODEC(ZSTD(1)) AFTER response_body_truncated,
    ADD COLUMN IF NOT EXISTS response_salt FixedString(16) COMMENT 'Salt of the ledger''s commitment to rpc_message and response body; zeros once these are deleted.' CODEC(NONE) AFTER response_body_sum,
    ADD COLUMN IF NOT EXISTS backlog Bool COMMENT 'Whether the call was let through before its record was durable, as its connection allows.' CODEC(ZSTD(1)) AFTER tls_version,
    ADD COLUMN IF NOT EXISTS bodies_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes args, path, rpc_message and both bodies.' CODEC(ZSTD(1)) AFTER backlog,
    ADD COLUMN IF NOT EXISTS row_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes the row; its events stay in the ledger.' CODEC(ZSTD(1)) AFTER bodies_until,
    ADD COLUMN IF NOT EXISTS erased Nullable(DateTime) COMMENT 'When args, path, rpc_message and both bodies were erased on request; NULL where they were not.' CODEC(ZSTD(1)) AFTER row_until
;;
ALTER TABLE {{table "calls"}} DROP COLUMN IF EXISTS request_body_sha256
;;
ALTER TABLE {{table "calls"}} DROP COLUMN IF EXISTS response_body_sha256
;;
ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS request_body_sha256 FixedString(32)
        ALIAS if(request_body_sum != toFixedString('', 32), request_body_sum, if(length(request_body) = request_body_bytes, toFixedString(SHA256(request_body), 32), toFixedString('', 32)))
        COMMENT 'SHA-256 of the whole request body; zeros once it is deleted.' AFTER request_body_bytes,
    ADD COLUMN IF NOT EXISTS response_body_sha256 FixedString(32)
        ALIAS if(response_body_sum != toFixedString('', 32), response_body_sum, if(length(response_body) = response_body_bytes, toFixedString(SHA256(response_body), 32), toFixedString('', 32)))
        COMMENT 'SHA-256 of the whole response body; zeros where it was not seen, or once it is deleted.' AFTER response_body_bytes
;;
ALTER TABLE {{table "calls"}}
    MODIFY COLUMN args TTL bodies_until,
    MODIFY COLUMN path TTL bodies_until,
    MODIFY COLUMN rpc_message TTL bodies_until,
    MODIFY COLUMN request_body TTL bodies_until,
    MODIFY COLUMN request_body_tail TTL bodies_until,
    MODIFY COLUMN request_body_sum TTL bodies_until,
    MODIFY COLUMN request_salt TTL bodies_until,
    MODIFY COLUMN response_body TTL bodies_until,
    MODIFY COLUMN response_body_tail TTL bodies_until,
    MODIFY COLUMN response_body_sum TTL bodies_until,
    MODIFY COLUMN response_salt TTL bodies_until
;;
ALTER TABLE {{table "calls"}} MODIFY TTL row_until
;;
CREATE TABLE IF NOT EXISTS {{table "checkpoints"}} (
    spool LowCardinality(String) COMMENT 'The spool, which is a Merkle log of its own.' CODEC(ZSTD(1)),
    size UInt64 COMMENT 'The first so many events of the spool are signed.' CODEC(Delta, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'When it was signed, by the clock of the replica.' CODEC(Delta, ZSTD(1)),
    root FixedString(32) COMMENT 'Root of the Merkle tree (RFC 6962) over these events.' CODEC(NONE),
    node LowCardinality(String) COMMENT 'The replica.' CODEC(ZSTD(1)),
    note String COMMENT 'The signed checkpoint: C2SP tlog-checkpoint.' CODEC(ZSTD(3)),
    frontier Array(FixedString(32)) COMMENT 'Roots of the perfect subtrees, to go on from here without the events before; empty in most rows.' CODEC(ZSTD(1)),
    leaf_prefixes String COMMENT 'First four bytes of the leaf hash of each event since the checkpoint before: which one was changed, where the root tells that one was.' CODEC(NONE)
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (spool, size, time)
COMMENT 'What was signed: from then on no event before can be changed unseen. One every few seconds while a replica runs, so silence shows.'
