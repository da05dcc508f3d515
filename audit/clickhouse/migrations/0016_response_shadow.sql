ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS response_shadow Array(LowCardinality(String)) COMMENT 'What rules in shadow would have done with tool calls in the response: "tool get_keys: deny: never", or the tool and the rule in shadow that would have matched.' CODEC(ZSTD(1)) AFTER masked.count
