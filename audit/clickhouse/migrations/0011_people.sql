ALTER TABLE {{table "approvals"}}
    ADD COLUMN IF NOT EXISTS in_place_of String COMMENT 'The approver, as "issuer|subject", where who decided is a delegate.' CODEC(ZSTD(1)) AFTER by,
    ADD COLUMN IF NOT EXISTS stage UInt32 COMMENT 'The stage that it is about, from 1; 0 for none.' CODEC(ZSTD(1)) AFTER in_place_of,
    ADD COLUMN IF NOT EXISTS stages UInt32 COMMENT 'How many stages the rule asks.' CODEC(ZSTD(1)) AFTER stage,
    ADD COLUMN IF NOT EXISTS state LowCardinality(String) COMMENT 'Of the approval after the step: open, approved, refused, used, expired, canceled or broke_glass. Empty in rows of older versions.' CODEC(ZSTD(1)) AFTER stages,
    ADD COLUMN IF NOT EXISTS connection LowCardinality(String) COMMENT 'The connection of the call that was held.' CODEC(ZSTD(1)) AFTER rule
;;
ALTER TABLE {{table "approvals"}}
    COMMENT COLUMN step 'asked, notified, seen, approved or refused (by one person), stage_done, used, expired, canceled, broke_glass, reviewed, granted, delegated, undelegated.',
    COMMENT COLUMN by 'Who, as "issuer|subject"; of notified the target.'
;;
DROP VIEW IF EXISTS {{view "pending_approvals"}}
;;
CREATE VIEW IF NOT EXISTS {{view "pending_approvals"}} AS
SELECT
    approval_id,
    any(call_id) AS held_call_id,
    any(rule) AS held_by_rule,
    any(function) AS held_function,
    min(time) AS asked_at,
    dateDiff('second', asked_at, now64(6, 'UTC')) AS waiting_s,
    max(expires) AS expires_at,
    countIf(step = 'approved') AS approved_so_far
FROM {{from "approvals"}}
GROUP BY approval_id
HAVING countIf(step = 'asked') > 0
    AND countIf(step IN ('refused', 'used', 'expired', 'canceled') OR step = 'approved' AND state IN ('', 'approved')) = 0
    AND ifNull(expires_at > now64(6, 'UTC'), true)
ORDER BY asked_at, approval_id
COMMENT 'Approvals that people have not decided yet and that have not expired, the longest waiting first.'
;;
DROP VIEW IF EXISTS {{view "time_to_decision"}}
;;
CREATE VIEW IF NOT EXISTS {{view "time_to_decision"}} AS
SELECT
    held_by_rule, held_function,
    count() AS approvals,
    countIf(approved) AS approved_ones,
    countIf(refused) AS refused_ones,
    countIf(ended IS NULL) AS undecided,
    round(quantileExactIf(0.5)(assumeNotNull(took_ms), took_ms IS NOT NULL) / 1000, 3) AS p50_s,
    round(quantileExactIf(0.95)(assumeNotNull(took_ms), took_ms IS NOT NULL) / 1000, 3) AS p95_s,
    arraySort(arrayDistinct(arrayFlatten(groupArray(deciders)))) AS decided_by
FROM
(
    SELECT
        approval_id,
        any(rule) AS held_by_rule,
        any(function) AS held_function,
        minIf(time, step = 'asked') AS asked_at,
        countIf(step = 'approved' AND state IN ('', 'approved')) > 0 AS approved,
        countIf(step = 'refused') > 0 AS refused,
        minOrNullIf(time, step = 'refused' OR step = 'approved' AND state IN ('', 'approved')) AS ended,
        dateDiff('millisecond', asked_at, ended) AS took_ms,
        groupUniqArrayIf(by, step IN ('approved', 'refused')) AS deciders
    FROM {{from "approvals"}}
    WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
    GROUP BY approval_id
    HAVING countIf(step = 'asked') > 0
)
GROUP BY held_by_rule, held_function
ORDER BY approvals DESC, held_by_rule, held_function
COMMENT 'How long people took to decide held calls, by rule and function; undecided ones expired, were given up by the caller, or still wait.'
;;
CREATE VIEW IF NOT EXISTS {{view "open_reviews"}} AS
SELECT
    approval_id,
    any(call_id) AS broke_call_id,
    any(rule) AS held_by_rule,
    any(connection) AS broke_connection,
    any(function) AS broke_function,
    anyIf(by, step = 'broke_glass') AS broke_by,
    anyIf(comment, step = 'broke_glass') AS why,
    minIf(time, step = 'broke_glass') AS broke_at
FROM {{from "approvals"}}
GROUP BY approval_id
HAVING countIf(step = 'broke_glass') > 0 AND countIf(step = 'reviewed') = 0
ORDER BY broke_at, approval_id
COMMENT 'Calls that broke glass and that nobody has reviewed yet, the oldest first.'
