ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS batch_id UUID COMMENT 'Batch that the call came in: the id of its first call. Zeros for a call that came alone.' CODEC(ZSTD(1)) AFTER rpc_id,
    ADD COLUMN IF NOT EXISTS batch_index UInt32 COMMENT 'Place in the batch, from 0.' CODEC(ZSTD(1)) AFTER batch_id,
    ADD COLUMN IF NOT EXISTS batch_size UInt32 COMMENT 'Calls in the batch; 0 for a call that came alone.' CODEC(ZSTD(1)) AFTER batch_index
;;
ALTER TABLE {{table "calls"}} ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1
