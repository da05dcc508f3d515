ALTER TABLE {{table "approvals"}}
    ADD COLUMN IF NOT EXISTS number UInt32 COMMENT 'Which step of its approval it is, from 1; 0 in rows of older versions.' CODEC(ZSTD(1)) AFTER call_id
;;
CREATE VIEW IF NOT EXISTS {{view "approval_steps"}} AS
SELECT *
FROM {{from "approvals"}}
ORDER BY approval_id, number, time, spool, spool_index
LIMIT 1 BY approval_id, number, if(number = 0, spool, ''), if(number = 0, spool_index, 0)
COMMENT 'The history of approvals, each step once: approvals with the few left out that two replicas recorded, since one was away before it could say that it had.'
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
FROM {{from "approval_steps"}}
GROUP BY approval_id
HAVING countIf(step = 'asked') > 0
    AND countIf(step IN ('refused', 'used', 'expired', 'canceled') OR step = 'approved' AND state IN ('', 'approved')) = 0
    AND ifNull(expires_at > now64(6, 'UTC'), true)
ORDER BY asked_at, approval_id
COMMENT 'Approvals that people have not decided yet and that have not expired, the longest waiting first.'
