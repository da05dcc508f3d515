ALTER TABLE {{table "calls"}}
    ADD COLUMN IF NOT EXISTS inserted DateTime64(3, 'UTC') COMMENT 'When the row was inserted, by the clock of ClickHouse; 1970 for rows from before this was kept.' CODEC(Delta, ZSTD(1))
;;
ALTER TABLE {{table "calls"}}
    ADD INDEX IF NOT EXISTS by_insertion inserted TYPE minmax GRANULARITY 1
