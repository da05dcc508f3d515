ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS scope Array(String) COMMENT 'What the token was narrowed to: connections and functions (crm:refunds.*). Empty for one that was not.' CODEC(ZSTD(1)) AFTER token_expires
