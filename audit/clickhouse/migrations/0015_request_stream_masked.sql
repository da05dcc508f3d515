ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS `request_stream_masked.rule` Array(LowCardinality(String)) COMMENT 'What was hidden of messages that streamed to the function after the decision: rule of mask_requests.' CODEC(ZSTD(1)) AFTER `request_masked.count`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.type` Array(LowCardinality(String)) COMMENT 'Detector (or path, key) that found it.' CODEC(ZSTD(1)) AFTER `request_stream_masked.rule`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.path` Array(String) COMMENT 'Field that it stood in.' CODEC(ZSTD(1)) AFTER `request_stream_masked.type`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.count` Array(UInt32) COMMENT 'How often.' CODEC(ZSTD(1)) AFTER `request_stream_masked.path`
