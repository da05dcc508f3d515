ALTER TABLE {{table "calls"}}
    MODIFY COLUMN time CODEC(T64, LZ4),
    MODIFY COLUMN request_body_bytes CODEC(T64, ZSTD(1)),
    MODIFY COLUMN response_body_bytes CODEC(T64, ZSTD(1)),
    MODIFY COLUMN authz_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN hold_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN upstream_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN total_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN bytes_in CODEC(T64, ZSTD(1)),
    MODIFY COLUMN bytes_out CODEC(T64, ZSTD(1))
;;
ALTER TABLE {{table "calls"}} ADD INDEX IF NOT EXISTS by_subject subject TYPE bloom_filter(0.01) GRANULARITY 1
;;
ALTER TABLE {{table "calls"}} ADD INDEX IF NOT EXISTS by_acting acting TYPE bloom_filter(0.01) GRANULARITY 1
;;
ALTER TABLE {{table "calls"}} MODIFY SETTING min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
;;
ALTER TABLE {{table "events"}} MODIFY SETTING min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1
