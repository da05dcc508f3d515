CREATE VIEW IF NOT EXISTS {{view "who_used_what"}} AS
SELECT
    issuer, subject, kind, acting, connection, function,
    count() AS calls,
    countIf(allowed) AS let_through,
    countIf(NOT allowed) AS refused,
    min(time) AS first_call,
    max(time) AS last_call
FROM {{from "calls"}}
WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY issuer, subject, kind, acting, connection, function
ORDER BY calls DESC, issuer, subject, acting, connection, function
COMMENT 'Who used what: each identity, who was at work for it, and the functions they called.'
;;
CREATE VIEW IF NOT EXISTS {{view "denials_by_rule"}} AS
SELECT
    toDate(time) AS day,
    rule, reason, connection, function,
    count() AS calls,
    uniqExact(issuer, subject) AS identities,
    argMax(message, time) AS last_message,
    argMax(call_id, time) AS last_call_id
FROM {{from "calls"}}
WHERE NOT allowed AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY day, rule, reason, connection, function
ORDER BY day DESC, calls DESC, rule, reason, connection, function
COMMENT 'Denials a day by rule and reason; the rule is empty where no rule decided, and the reason says what did.'
;;
CREATE VIEW IF NOT EXISTS {{view "slow_functions"}} AS
SELECT
    connection, function,
    count() AS calls,
    round(quantileExact(0.5)(worked_us) / 1000, 3) AS p50_ms,
    round(quantileExact(0.95)(worked_us) / 1000, 3) AS p95_ms,
    round(quantileExact(0.99)(worked_us) / 1000, 3) AS p99_ms,
    round(max(worked_us) / 1000, 3) AS max_ms,
    round(quantileExactIf(0.95)(assumeNotNull(upstream_us), upstream_us IS NOT NULL) / 1000, 3) AS p95_upstream_ms,
    round(quantileExact(0.95)(authz_us) / 1000, 3) AS p95_authz_ms,
    countIf(hold_us > 0) AS held
FROM
(
    SELECT connection, function, authz_us, hold_us, upstream_us,
        assumeNotNull(total_us) - least(hold_us, assumeNotNull(total_us)) AS worked_us
    FROM {{from "calls"}}
    WHERE allowed AND total_us IS NOT NULL AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
)
GROUP BY connection, function
ORDER BY p95_ms DESC, connection, function
COMMENT 'Slow functions: milliseconds that callers waited, without the time a call was held for people.'
;;
CREATE VIEW IF NOT EXISTS {{view "secrets_seen"}} AS
SELECT
    type, rule, connection, function,
    count() AS calls,
    sum(hidden) AS hidden,
    uniqExact(issuer, subject) AS identities,
    arraySort(groupUniqArray(20)(path)) AS paths,
    max(called) AS last_call,
    argMax(call_id, called) AS last_call_id
FROM
(
    SELECT connection, function, issuer, subject, call_id, time AS called,
        m.1 AS rule, m.2 AS type, m.3 AS path, m.4 AS hidden
    FROM {{from "calls"}}
    ARRAY JOIN arrayZip(masked.rule, masked.type, masked.path, masked.count) AS m
    WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
)
GROUP BY type, rule, connection, function
ORDER BY hidden DESC, type, rule, connection, function
COMMENT 'Secrets seen: what masking hid in responses, by type and function. The values themselves are recorded nowhere.'
;;
CREATE VIEW IF NOT EXISTS {{view "dormant_grants"}} AS
SELECT
    issuer, subject, acting, connection, function,
    count() AS calls,
    max(time) AS last_call,
    dateDiff('day', last_call, now64(6, 'UTC')) AS idle_days,
    argMax(rule, time) AS last_rule
FROM {{from "calls"}}
WHERE allowed AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY issuer, subject, acting, connection, function
HAVING last_call < now64(6, 'UTC') - toIntervalDay({idle:UInt32})
ORDER BY last_call, issuer, subject, acting, connection, function
COMMENT 'Dormant grants: what an identity was let do within days and has not done for idle days.'
;;
CREATE VIEW IF NOT EXISTS {{view "dormant_rules"}} AS
SELECT
    rule,
    count() AS calls,
    countIf(allowed) AS let_through,
    max(time) AS last_call,
    dateDiff('day', last_call, now64(6, 'UTC')) AS idle_days
FROM {{from "calls"}}
WHERE rule != '' AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY rule
HAVING last_call < now64(6, 'UTC') - toIntervalDay({idle:UInt32})
ORDER BY last_call, rule
COMMENT 'Dormant rules: rules that decided calls within days and none for idle days. A rule that never decided is in no call, so not here.'
;;
CREATE VIEW IF NOT EXISTS {{view "first_seen"}} AS
SELECT
    issuer, subject, connection, function,
    min(time) AS first_call,
    argMin(call_id, time) AS first_call_id,
    argMin(acting, time) AS first_acting,
    argMin(decision, time) AS first_decision,
    argMin(source, time) AS first_source,
    count() AS calls
FROM {{from "calls"}}
GROUP BY issuer, subject, connection, function
HAVING first_call >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
ORDER BY first_call DESC, issuer, subject, connection, function
COMMENT 'First seen: identities and functions that met for the first time within days, by all that is recorded.'
;;
CREATE VIEW IF NOT EXISTS {{view "errors_by_function"}} AS
SELECT
    connection, function,
    count() AS calls,
    countIf(failed) AS failed_calls,
    round(100 * failed_calls / calls, 2) AS failed_percent,
    countIf(http_status >= 500) AS http_5xx,
    countIf(http_status BETWEEN 400 AND 499) AS http_4xx,
    countIf(rpc_code != 0) AS rpc_errors,
    countIf(tool_error) AS tool_errors,
    countIf(upstream_error != '') AS unreachable,
    countIf(withheld != '') AS withheld_responses,
    countIf(interrupted) AS interrupted_responses,
    maxIf(time, failed) AS last_failure,
    argMaxIf(call_id, time, failed) AS last_failure_id
FROM
(
    SELECT *, ifNull(http_status >= 400, false) OR ifNull(rpc_code != 0, false) OR ifNull(tool_error, false)
        OR upstream_error != '' OR withheld != '' OR interrupted AS failed
    FROM
    (
        SELECT connection, function, call_id, time, http_status, rpc_code, tool_error, upstream_error, withheld, interrupted
        FROM {{from "calls"}}
        WHERE allowed AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
    )
)
GROUP BY connection, function
HAVING failed_calls > 0
ORDER BY failed_calls DESC, connection, function
COMMENT 'Errors by function, of calls that were let through. A call can fail in several ways at once.'
;;
CREATE VIEW IF NOT EXISTS {{view "pending_approvals"}} AS
SELECT
    approval_id,
    any(call_id) AS held_call_id,
    any(rule) AS held_by_rule,
    any(function) AS held_function,
    min(time) AS asked_at,
    dateDiff('second', asked_at, now64(6, 'UTC')) AS waiting_s,
    max(expires) AS expires_at
FROM {{from "approvals"}}
GROUP BY approval_id
HAVING countIf(step IN ('approved', 'refused', 'used', 'expired', 'canceled')) = 0 AND ifNull(expires_at > now64(6, 'UTC'), true)
ORDER BY asked_at, approval_id
COMMENT 'Approvals that nobody has decided yet and that have not expired, the longest waiting first.'
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
        countIf(step = 'approved') > 0 AS approved,
        countIf(step = 'refused') > 0 AS refused,
        minOrNullIf(time, step IN ('approved', 'refused')) AS ended,
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
CREATE VIEW IF NOT EXISTS {{view "unknown_legs"}} AS
SELECT
    time, call_id, connection, function, issuer, subject, envoy_node, spool,
    answered = 'unknown' AS answer_unknown,
    finished = 'unknown' AS finish_unknown
FROM {{from "calls"}}
WHERE (answered = 'unknown' OR finished = 'unknown') AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
ORDER BY time DESC, call_id
COMMENT 'Calls of which nobody saw the response or the end: a process died, or a leg is still on its way.'
;;
CREATE VIEW IF NOT EXISTS {{view "volume_per_hour"}} AS
SELECT
    toStartOfHour(time) AS hour,
    connection,
    count() AS calls,
    countIf(NOT allowed) AS refused,
    countIf(hold_us > 0) AS held,
    uniqExact(issuer, subject) AS identities,
    sum(ifNull(bytes_in, 0)) AS received_bytes,
    sum(ifNull(bytes_out, 0)) AS sent_bytes
FROM {{from "calls"}}
WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY hour, connection
ORDER BY hour DESC, connection
COMMENT 'Volume an hour by connection.'
;;
CREATE VIEW IF NOT EXISTS {{view "large_exports"}} AS
SELECT
    time, call_id, issuer, subject, acting, connection, function,
    greatest(ifNull(response_body_bytes, 0), ifNull(bytes_out, 0)) AS exported_bytes,
    response_type
FROM {{from "calls"}}
WHERE allowed AND exported_bytes >= {bytes:UInt64} AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
ORDER BY exported_bytes DESC, time DESC, call_id
COMMENT 'Large exports: calls that carried out at least so many bytes, the largest first.'
;;
CREATE VIEW IF NOT EXISTS {{view "delegations"}} AS
SELECT
    issuer, subject,
    arrayStringConcat(actors.subject, ' for ') AS acted,
    count() AS calls,
    countIf(NOT allowed) AS refused,
    uniqExact(connection, function) AS functions,
    max(time) AS last_call
FROM {{from "calls"}}
WHERE notEmpty(actors.subject) AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY issuer, subject, acted
ORDER BY calls DESC, issuer, subject, acted
COMMENT 'Delegations: who acted for whom, the one at work first.'
;;
CREATE VIEW IF NOT EXISTS {{view "shadow_rules"}} AS
SELECT
    shadow_rule, connection, function,
    count() AS calls,
    countIf(allowed) AS let_through,
    uniqExact(issuer, subject) AS identities,
    max(called) AS last_call,
    argMax(call_id, called) AS last_call_id
FROM
(
    SELECT arrayJoin(shadow) AS shadow_rule, connection, function, allowed, issuer, subject, time AS called, call_id
    FROM {{from "calls"}}
    WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
)
GROUP BY shadow_rule, connection, function
ORDER BY calls DESC, shadow_rule, connection, function
COMMENT 'Shadow rules: calls that a rule in shadow would have matched, and how many of them were let through without it.'
