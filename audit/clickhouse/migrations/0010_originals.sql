ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS relaxed Array(LowCardinality(String)) COMMENT 'Masks that hid less from this caller than from others, and how: "cards: partial", "cards: show".' CODEC(ZSTD(1)) AFTER shadow,
    ADD COLUMN IF NOT EXISTS original_sealed String COMMENT 'The response body as the function sent it, where the caller got another: encrypted (age) for investigators, and around that for the gateway, which releases it when a second person has agreed; callgate calls unseal.' CODEC(NONE) AFTER masked.count,
    ADD COLUMN IF NOT EXISTS original_commitment String COMMENT 'HMAC-SHA256 that commits the ledger to the original; its key is sealed with it. Empty where none is kept.' CODEC(NONE) AFTER original_sealed
;;
ALTER TABLE {{table "calls"}} MODIFY COLUMN original_sealed TTL bodies_until
