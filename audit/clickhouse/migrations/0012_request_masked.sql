ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS `request_masked.rule` Array(LowCardinality(String)) COMMENT 'What was hidden of the request before the function got it: rule of mask_requests. request_body is what the function got.' CODEC(ZSTD(1)) AFTER request_salt,
    ADD COLUMN IF NOT EXISTS `request_masked.type` Array(LowCardinality(String)) COMMENT 'Detector (or path, key) that found it.' CODEC(ZSTD(1)) AFTER `request_masked.rule`,
    ADD COLUMN IF NOT EXISTS `request_masked.path` Array(String) COMMENT 'Field that it stood in.' CODEC(ZSTD(1)) AFTER `request_masked.type`,
    ADD COLUMN IF NOT EXISTS `request_masked.count` Array(UInt32) COMMENT 'How often.' CODEC(ZSTD(1)) AFTER `request_masked.path`
