-- 0000 database

CREATE DATABASE IF NOT EXISTS callgate ON CLUSTER 'trail';

CREATE TABLE IF NOT EXISTS callgate.schema_migrations_local ON CLUSTER 'trail' (
    version UInt32 COMMENT 'Number of the migration.',
    name String COMMENT 'Its name.',
    applied DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When a replica first finished it.'
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/callgate/schema_migrations_local', '{replica}')
ORDER BY version
COMMENT 'Migrations that this database has.';

CREATE TABLE IF NOT EXISTS callgate.schema_migrations ON CLUSTER 'trail' AS callgate.schema_migrations_local
ENGINE = Distributed('trail', 'callgate', 'schema_migrations_local', rand());

-- 0001 trail

CREATE TABLE IF NOT EXISTS callgate.events_local ON CLUSTER 'trail' (
    spool    LowCardinality(String) COMMENT 'Id of the spool that took the event; one append-only log each.' CODEC(ZSTD(1)),
    spool_index UInt64 COMMENT 'Place in that log, from 0, without gaps.' CODEC(Delta, ZSTD(1)),
    time     DateTime64(6, 'UTC') COMMENT 'When the event was made, by the clock of the replica that made it.' CODEC(Delta, ZSTD(1)),
    kind     LowCardinality(String) COMMENT 'decided, answered, finished, held, approved, changed; unreadable where the leaf could not be decoded.' CODEC(ZSTD(1)),
    call_id  UUID COMMENT 'The call it tells of; zero for changed.' CODEC(ZSTD(1)),
    leaf     String COMMENT 'The event: canonical CBOR, a body by its SHA-256.' CODEC(ZSTD(3)),
    unjoined Bool COMMENT 'Whether the event is a leg that came to another spool than its call, or after the row of its call; its body is kept here then.' CODEC(ZSTD(1)),
    body_head String COMMENT 'Recorded body of an unjoined leg: the whole, or its first part.' CODEC(ZSTD(3)),
    body_tail String COMMENT 'Last part of a body that was too long to record whole.' CODEC(ZSTD(3)),
    inserted DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the row was inserted, by the clock of ClickHouse.' CODEC(Delta, ZSTD(1)),
    INDEX by_call call_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_time time TYPE minmax GRANULARITY 1,
    INDEX by_insertion inserted TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/callgate/events_local', '{replica}')
PARTITION BY toDate(time)
ORDER BY (spool, spool_index)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'The ledger: every event of every spool, as it was recorded. Rows are never changed.';

CREATE TABLE IF NOT EXISTS callgate.events ON CLUSTER 'trail' AS callgate.events_local
ENGINE = Distributed('trail', 'callgate', 'events_local', cityHash64(spool, intDiv(spool_index, 65536)));

CREATE TABLE IF NOT EXISTS callgate.calls_local ON CLUSTER 'trail' (
    call_id UUID COMMENT 'The call: UUID version 7, also in the x-callgate-call-id header.' CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') COMMENT 'When the call reached the gateway.' CODEC(Delta, ZSTD(1)),
    decided_at DateTime64(6, 'UTC') COMMENT 'When it was decided.' CODEC(Delta, ZSTD(1)),

    issuer LowCardinality(String) COMMENT 'Who vouches for the caller; empty where nobody was identified.' CODEC(ZSTD(1)),
    subject String COMMENT 'The caller, or the one it acts for.' CODEC(ZSTD(1)),
    kind LowCardinality(String) COMMENT 'human, ci, agent, workload.' CODEC(ZSTD(1)),
    groups Array(LowCardinality(String)) COMMENT 'Groups of the subject.' CODEC(ZSTD(1)),
    acting String COMMENT 'Who was at work: the nearest actor, or the subject itself.' CODEC(ZSTD(1)),
    actors Nested (
        issuer LowCardinality(String),
        subject String
    ) COMMENT 'Who acted for the subject (RFC 8693 act), the one at work first.' CODEC(ZSTD(1)),
    auth_method LowCardinality(String) COMMENT 'How the identity was proved.' CODEC(ZSTD(1)),
    token_id String COMMENT 'jti of the token, which names it without being it.' CODEC(ZSTD(1)),
    token_expires Nullable(DateTime64(6, 'UTC')) COMMENT 'When the token expires.' CODEC(ZSTD(1)),

    connection LowCardinality(String) COMMENT 'The connection; empty where none matched.' CODEC(ZSTD(1)),
    protocol LowCardinality(String) COMMENT 'http, mcp, jsonrpc, grpc.' CODEC(ZSTD(1)),
    function LowCardinality(String) COMMENT 'The function that was called.' CODEC(ZSTD(1)),
    args String COMMENT 'Its arguments as one JSON object: JSONExtract(args, ''customer'', ''id'', ''String'').' CODEC(ZSTD(3)),
    session String COMMENT 'What the call belongs to: MCP session, token sid or trace.' CODEC(ZSTD(1)),

    decision LowCardinality(String) COMMENT 'allow, deny, hold→allow, hold→deny, hold→expired.' CODEC(ZSTD(1)),
    allowed Bool COMMENT 'Whether the call was let through.' CODEC(ZSTD(1)),
    rule LowCardinality(String) COMMENT 'The rule that decided; empty where none did.' CODEC(ZSTD(1)),
    reason LowCardinality(String) COMMENT 'Why, in one stable word; also in the x-callgate-reason header.' CODEC(ZSTD(1)),
    message String COMMENT 'Why, for people.' CODEC(ZSTD(1)),
    policy_version LowCardinality(String) COMMENT 'Rules and connections that were in force.' CODEC(ZSTD(1)),
    shadow Array(LowCardinality(String)) COMMENT 'Rules in shadow that would have matched.' CODEC(ZSTD(1)),

    approval_id String COMMENT 'The approval that was asked for; empty where none was.' CODEC(ZSTD(1)),
    approval_by Array(String) COMMENT 'Who decided it, each "issuer|subject".' CODEC(ZSTD(1)),
    approval_comment String COMMENT 'What they said.' CODEC(ZSTD(1)),
    approval_asked Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was asked for.' CODEC(ZSTD(1)),
    approval_ended Nullable(DateTime64(6, 'UTC')) COMMENT 'When it ended.' CODEC(ZSTD(1)),
    approval_expires Nullable(DateTime64(6, 'UTC')) COMMENT 'When it would have expired.' CODEC(ZSTD(1)),
    approval_attempts UInt32 COMMENT 'How often the caller asked again.' CODEC(ZSTD(1)),

    method LowCardinality(String) COMMENT 'HTTP method.' CODEC(ZSTD(1)),
    scheme LowCardinality(String) COMMENT 'http or https.' CODEC(ZSTD(1)),
    authority LowCardinality(String) COMMENT 'Host that was asked for.' CODEC(ZSTD(1)),
    path String COMMENT 'Path and query as Envoy normalised them, credentials replaced.' CODEC(ZSTD(1)),
    request_headers Map(LowCardinality(String), String) COMMENT 'Recorded request headers, lower case; values of a repeated name are joined by ", ".' CODEC(ZSTD(1)),
    request_type LowCardinality(String) COMMENT 'content-type of the request.' CODEC(ZSTD(1)),
    request_encoding LowCardinality(String) COMMENT 'content-encoding of the request.' CODEC(ZSTD(1)),
    request_body String COMMENT 'Request body, whole or its first part. Any bytes.' CODEC(ZSTD(3)),
    request_body_tail String COMMENT 'Last part of a body that was too long to record whole.' CODEC(ZSTD(3)),
    request_body_bytes UInt64 COMMENT 'Length of the whole request body.' CODEC(ZSTD(1)),
    request_body_sha256 FixedString(32) COMMENT 'SHA-256 of the whole request body.' CODEC(NONE),
    request_body_truncated Bool COMMENT 'Whether the middle is missing here.' CODEC(ZSTD(1)),
    source String COMMENT 'Address of the caller as Envoy saw it.' CODEC(ZSTD(1)),
    envoy_node LowCardinality(String) COMMENT 'Envoy that took the call.' CODEC(ZSTD(1)),
    trace_id String COMMENT 'W3C trace id.' CODEC(ZSTD(1)),
    request_id String COMMENT 'x-request-id; a hint, not unique.' CODEC(ZSTD(1)),
    rpc_id String COMMENT 'JSON-RPC id as the caller sent it.' CODEC(ZSTD(1)),

    answered Enum8('none' = 0, 'unknown' = 1, 'seen' = 2) COMMENT 'The response leg: none is expected, it was not seen (yet), or it is here.' CODEC(ZSTD(1)),
    finished Enum8('none' = 0, 'unknown' = 1, 'seen' = 2) COMMENT 'The access-log leg: none is expected, it was not seen (yet), or it is here.' CODEC(ZSTD(1)),

    http_status Nullable(UInt16) COMMENT 'HTTP status that the caller got; NULL where no leg told.' CODEC(ZSTD(1)),
    rpc_code Nullable(Int64) COMMENT 'JSON-RPC error code or grpc-status, 0 for success; NULL where the protocol has none or it was not seen.' CODEC(ZSTD(1)),
    rpc_message Nullable(String) COMMENT 'Message that came with rpc_code.' CODEC(ZSTD(1)),
    tool_error Nullable(Bool) COMMENT 'Whether the tool reported an error of its own (MCP isError); NULL for all else.' CODEC(ZSTD(1)),

    response_headers Map(LowCardinality(String), String) COMMENT 'Recorded response headers.' CODEC(ZSTD(1)),
    response_type LowCardinality(String) COMMENT 'content-type of the response.' CODEC(ZSTD(1)),
    response_encoding LowCardinality(String) COMMENT 'content-encoding of the response.' CODEC(ZSTD(1)),
    response_body String COMMENT 'Response body as the caller got it, masked; whole or its first part. Any bytes.' CODEC(ZSTD(3)),
    response_body_tail String COMMENT 'Last part of a body that was too long to record whole.' CODEC(ZSTD(3)),
    response_body_bytes Nullable(UInt64) COMMENT 'Length of the whole response body; NULL where it was not seen.' CODEC(ZSTD(1)),
    response_body_sha256 FixedString(32) COMMENT 'SHA-256 of the whole response body; zeros where it was not seen.' CODEC(NONE),
    response_body_truncated Bool COMMENT 'Whether the middle is missing here.' CODEC(ZSTD(1)),
    masked Nested (
        rule LowCardinality(String),
        type LowCardinality(String),
        path String,
        count UInt32
    ) COMMENT 'What was hidden in the response: rule, detector (or path, key), field and how often.' CODEC(ZSTD(1)),
    withheld String COMMENT 'Why the response was not passed on; empty where it was.' CODEC(ZSTD(1)),
    interrupted Bool COMMENT 'Whether the response broke off before its end.' CODEC(ZSTD(1)),

    authz_us UInt64 COMMENT 'Microseconds to decide, without the time held.' CODEC(ZSTD(1)),
    hold_us UInt64 COMMENT 'Microseconds that the call was held for approval.' CODEC(ZSTD(1)),
    upstream_us Nullable(UInt64) COMMENT 'Microseconds from the first byte to the function to the last byte from it.' CODEC(ZSTD(1)),
    total_us Nullable(UInt64) COMMENT 'Microseconds from the first byte in to the last byte out.' CODEC(ZSTD(1)),
    bytes_in Nullable(UInt64) COMMENT 'Bytes from the caller, as Envoy counted them.' CODEC(ZSTD(1)),
    bytes_out Nullable(UInt64) COMMENT 'Bytes to the caller, as Envoy counted them.' CODEC(ZSTD(1)),
    response_flags Array(LowCardinality(String)) COMMENT 'Envoy''s response flags: UF, DC, UAEX …' CODEC(ZSTD(1)),
    response_details LowCardinality(String) COMMENT 'Envoy''s response_code_details.' CODEC(ZSTD(1)),
    upstream String COMMENT 'Address that was reached.' CODEC(ZSTD(1)),
    cluster LowCardinality(String) COMMENT 'Envoy cluster that was reached.' CODEC(ZSTD(1)),
    upstream_attempts UInt32 COMMENT 'Attempts that Envoy made.' CODEC(ZSTD(1)),
    upstream_error String COMMENT 'Why the upstream could not be reached.' CODEC(ZSTD(1)),
    http_version LowCardinality(String) COMMENT 'HTTP version that the caller spoke.' CODEC(ZSTD(1)),
    tls_version LowCardinality(String) COMMENT 'TLS version that the caller spoke.' CODEC(ZSTD(1)),

    spool LowCardinality(String) COMMENT 'The spool that owns the call.' CODEC(ZSTD(1)),
    spool_index UInt64 COMMENT 'Index of its decided event there.' CODEC(Delta, ZSTD(1)),

    INDEX by_id call_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_session session TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_time time TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/callgate/calls_local', '{replica}')
PARTITION BY toDate(time)
ORDER BY (subject, connection, function, time)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, enable_block_number_column = 1, enable_block_offset_column = 1
COMMENT 'One row a call: who called what with what, was it allowed and why, and what became of it.';

CREATE TABLE IF NOT EXISTS callgate.calls ON CLUSTER 'trail' AS callgate.calls_local
ENGINE = Distributed('trail', 'callgate', 'calls_local', cityHash64(spool, intDiv(spool_index, 65536)));

CREATE TABLE IF NOT EXISTS callgate.approvals_local ON CLUSTER 'trail' (
    time DateTime64(6, 'UTC') COMMENT 'When the step happened.' CODEC(Delta, ZSTD(1)),
    approval_id String COMMENT 'The approval.' CODEC(ZSTD(1)),
    call_id UUID COMMENT 'The call that was held.' CODEC(ZSTD(1)),
    step LowCardinality(String) COMMENT 'asked, approved, refused, used, expired, canceled.' CODEC(ZSTD(1)),
    by String COMMENT 'Who, as "issuer|subject".' CODEC(ZSTD(1)),
    comment String COMMENT 'What they said.' CODEC(ZSTD(1)),
    rule LowCardinality(String) COMMENT 'The rule that held the call.' CODEC(ZSTD(1)),
    function LowCardinality(String) COMMENT 'The function that was called.' CODEC(ZSTD(1)),
    expires Nullable(DateTime64(6, 'UTC')) COMMENT 'When the approval expires.' CODEC(ZSTD(1)),
    binding FixedString(32) COMMENT 'SHA-256 of what the approval is bound to.' CODEC(ZSTD(1)),
    spool LowCardinality(String) COMMENT 'Id of the spool that took the event.' CODEC(ZSTD(1)),
    spool_index UInt64 COMMENT 'Its index there.' CODEC(Delta, ZSTD(1)),
    INDEX by_call call_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/callgate/approvals_local', '{replica}')
PARTITION BY toDate(time)
ORDER BY (approval_id, time)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'The history of approvals, a row a step.';

CREATE TABLE IF NOT EXISTS callgate.approvals ON CLUSTER 'trail' AS callgate.approvals_local
ENGINE = Distributed('trail', 'callgate', 'approvals_local', cityHash64(spool, intDiv(spool_index, 65536)));

INSERT INTO callgate.schema_migrations (version, name) VALUES (1, 'trail');

-- 0002 inserted

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS inserted DateTime64(3, 'UTC') COMMENT 'When the row was inserted, by the clock of ClickHouse; 1970 for rows from before this was kept.' CODEC(Delta, ZSTD(1));

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS inserted DateTime64(3, 'UTC') COMMENT 'When the row was inserted, by the clock of ClickHouse; 1970 for rows from before this was kept.' CODEC(Delta, ZSTD(1));

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD INDEX IF NOT EXISTS by_insertion inserted TYPE minmax GRANULARITY 1;

INSERT INTO callgate.schema_migrations (version, name) VALUES (2, 'inserted');

-- 0003 views

CREATE VIEW IF NOT EXISTS callgate.who_used_what ON CLUSTER 'trail' AS
SELECT
    issuer, subject, kind, acting, connection, function,
    count() AS calls,
    countIf(allowed) AS let_through,
    countIf(NOT allowed) AS refused,
    min(time) AS first_call,
    max(time) AS last_call
FROM callgate.calls
WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY issuer, subject, kind, acting, connection, function
ORDER BY calls DESC, issuer, subject, acting, connection, function
COMMENT 'Who used what: each identity, who was at work for it, and the functions they called.';

CREATE VIEW IF NOT EXISTS callgate.denials_by_rule ON CLUSTER 'trail' AS
SELECT
    toDate(time) AS day,
    rule, reason, connection, function,
    count() AS calls,
    uniqExact(issuer, subject) AS identities,
    argMax(message, time) AS last_message,
    argMax(call_id, time) AS last_call_id
FROM callgate.calls
WHERE NOT allowed AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY day, rule, reason, connection, function
ORDER BY day DESC, calls DESC, rule, reason, connection, function
COMMENT 'Denials a day by rule and reason; the rule is empty where no rule decided, and the reason says what did.';

CREATE VIEW IF NOT EXISTS callgate.slow_functions ON CLUSTER 'trail' AS
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
    FROM callgate.calls
    WHERE allowed AND total_us IS NOT NULL AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
)
GROUP BY connection, function
ORDER BY p95_ms DESC, connection, function
COMMENT 'Slow functions: milliseconds that callers waited, without the time a call was held for people.';

CREATE VIEW IF NOT EXISTS callgate.secrets_seen ON CLUSTER 'trail' AS
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
    FROM callgate.calls
    ARRAY JOIN arrayZip(masked.rule, masked.type, masked.path, masked.count) AS m
    WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
)
GROUP BY type, rule, connection, function
ORDER BY hidden DESC, type, rule, connection, function
COMMENT 'Secrets seen: what masking hid in responses, by type and function. The values themselves are recorded nowhere.';

CREATE VIEW IF NOT EXISTS callgate.dormant_grants ON CLUSTER 'trail' AS
SELECT
    issuer, subject, acting, connection, function,
    count() AS calls,
    max(time) AS last_call,
    dateDiff('day', last_call, now64(6, 'UTC')) AS idle_days,
    argMax(rule, time) AS last_rule
FROM callgate.calls
WHERE allowed AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY issuer, subject, acting, connection, function
HAVING last_call < now64(6, 'UTC') - toIntervalDay({idle:UInt32})
ORDER BY last_call, issuer, subject, acting, connection, function
COMMENT 'Dormant grants: what an identity was let do within days and has not done for idle days.';

CREATE VIEW IF NOT EXISTS callgate.dormant_rules ON CLUSTER 'trail' AS
SELECT
    rule,
    count() AS calls,
    countIf(allowed) AS let_through,
    max(time) AS last_call,
    dateDiff('day', last_call, now64(6, 'UTC')) AS idle_days
FROM callgate.calls
WHERE rule != '' AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY rule
HAVING last_call < now64(6, 'UTC') - toIntervalDay({idle:UInt32})
ORDER BY last_call, rule
COMMENT 'Dormant rules: rules that decided calls within days and none for idle days. A rule that never decided is in no call, so not here.';

CREATE VIEW IF NOT EXISTS callgate.first_seen ON CLUSTER 'trail' AS
SELECT
    issuer, subject, connection, function,
    min(time) AS first_call,
    argMin(call_id, time) AS first_call_id,
    argMin(acting, time) AS first_acting,
    argMin(decision, time) AS first_decision,
    argMin(source, time) AS first_source,
    count() AS calls
FROM callgate.calls
GROUP BY issuer, subject, connection, function
HAVING first_call >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
ORDER BY first_call DESC, issuer, subject, connection, function
COMMENT 'First seen: identities and functions that met for the first time within days, by all that is recorded.';

CREATE VIEW IF NOT EXISTS callgate.errors_by_function ON CLUSTER 'trail' AS
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
        FROM callgate.calls
        WHERE allowed AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
    )
)
GROUP BY connection, function
HAVING failed_calls > 0
ORDER BY failed_calls DESC, connection, function
COMMENT 'Errors by function, of calls that were let through. A call can fail in several ways at once.';

CREATE VIEW IF NOT EXISTS callgate.pending_approvals ON CLUSTER 'trail' AS
SELECT
    approval_id,
    any(call_id) AS held_call_id,
    any(rule) AS held_by_rule,
    any(function) AS held_function,
    min(time) AS asked_at,
    dateDiff('second', asked_at, now64(6, 'UTC')) AS waiting_s,
    max(expires) AS expires_at
FROM callgate.approvals
GROUP BY approval_id
HAVING countIf(step IN ('approved', 'refused', 'used', 'expired', 'canceled')) = 0 AND ifNull(expires_at > now64(6, 'UTC'), true)
ORDER BY asked_at, approval_id
COMMENT 'Approvals that nobody has decided yet and that have not expired, the longest waiting first.';

CREATE VIEW IF NOT EXISTS callgate.time_to_decision ON CLUSTER 'trail' AS
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
    FROM callgate.approvals
    WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
    GROUP BY approval_id
    HAVING countIf(step = 'asked') > 0
)
GROUP BY held_by_rule, held_function
ORDER BY approvals DESC, held_by_rule, held_function
COMMENT 'How long people took to decide held calls, by rule and function; undecided ones expired, were given up by the caller, or still wait.';

CREATE VIEW IF NOT EXISTS callgate.unknown_legs ON CLUSTER 'trail' AS
SELECT
    time, call_id, connection, function, issuer, subject, envoy_node, spool,
    answered = 'unknown' AS answer_unknown,
    finished = 'unknown' AS finish_unknown
FROM callgate.calls
WHERE (answered = 'unknown' OR finished = 'unknown') AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
ORDER BY time DESC, call_id
COMMENT 'Calls of which nobody saw the response or the end: a process died, or a leg is still on its way.';

CREATE VIEW IF NOT EXISTS callgate.volume_per_hour ON CLUSTER 'trail' AS
SELECT
    toStartOfHour(time) AS hour,
    connection,
    count() AS calls,
    countIf(NOT allowed) AS refused,
    countIf(hold_us > 0) AS held,
    uniqExact(issuer, subject) AS identities,
    sum(ifNull(bytes_in, 0)) AS received_bytes,
    sum(ifNull(bytes_out, 0)) AS sent_bytes
FROM callgate.calls
WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY hour, connection
ORDER BY hour DESC, connection
COMMENT 'Volume an hour by connection.';

CREATE VIEW IF NOT EXISTS callgate.large_exports ON CLUSTER 'trail' AS
SELECT
    time, call_id, issuer, subject, acting, connection, function,
    greatest(ifNull(response_body_bytes, 0), ifNull(bytes_out, 0)) AS exported_bytes,
    response_type
FROM callgate.calls
WHERE allowed AND exported_bytes >= {bytes:UInt64} AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
ORDER BY exported_bytes DESC, time DESC, call_id
COMMENT 'Large exports: calls that carried out at least so many bytes, the largest first.';

CREATE VIEW IF NOT EXISTS callgate.delegations ON CLUSTER 'trail' AS
SELECT
    issuer, subject,
    arrayStringConcat(actors.subject, ' for ') AS acted,
    count() AS calls,
    countIf(NOT allowed) AS refused,
    uniqExact(connection, function) AS functions,
    max(time) AS last_call
FROM callgate.calls
WHERE notEmpty(actors.subject) AND time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
GROUP BY issuer, subject, acted
ORDER BY calls DESC, issuer, subject, acted
COMMENT 'Delegations: who acted for whom, the one at work first.';

CREATE VIEW IF NOT EXISTS callgate.shadow_rules ON CLUSTER 'trail' AS
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
    FROM callgate.calls
    WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
)
GROUP BY shadow_rule, connection, function
ORDER BY calls DESC, shadow_rule, connection, function
COMMENT 'Shadow rules: calls that a rule in shadow would have matched, and how many of them were let through without it.';

INSERT INTO callgate.schema_migrations (version, name) VALUES (3, 'views');

-- 0004 durable

ALTER TABLE callgate.events_local ON CLUSTER 'trail' MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE callgate.approvals_local ON CLUSTER 'trail' MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO callgate.schema_migrations (version, name) VALUES (4, 'durable');

-- 0005 ledger

ALTER TABLE callgate.events_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS aside String COMMENT 'Content of an unjoined leg that its leaf commits to: canonical CBOR.' CODEC(ZSTD(3)),
    ADD COLUMN IF NOT EXISTS bodies_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes the content that is kept here.' CODEC(ZSTD(1));

ALTER TABLE callgate.events ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS aside String COMMENT 'Content of an unjoined leg that its leaf commits to: canonical CBOR.' CODEC(ZSTD(3)),
    ADD COLUMN IF NOT EXISTS bodies_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes the content that is kept here.' CODEC(ZSTD(1));

ALTER TABLE callgate.events_local ON CLUSTER 'trail'
    MODIFY COLUMN aside TTL bodies_until,
    MODIFY COLUMN body_head TTL bodies_until,
    MODIFY COLUMN body_tail TTL bodies_until;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS request_body_sum FixedString(32) COMMENT 'SHA-256 of a request body of which only parts are recorded; zeros else.' CODEC(ZSTD(1)) AFTER request_body_truncated,
    ADD COLUMN IF NOT EXISTS request_salt FixedString(16) COMMENT 'Salt of the ledger''s commitment to arguments, path and request body; zeros once these are deleted.' CODEC(NONE) AFTER request_body_sum,
    ADD COLUMN IF NOT EXISTS response_body_sum FixedString(32) COMMENT 'SHA-256 of a response body of which only parts are recorded; zeros else.' CODEC(ZSTD(1)) AFTER response_body_truncated,
    ADD COLUMN IF NOT EXISTS response_salt FixedString(16) COMMENT 'Salt of the ledger''s commitment to rpc_message and response body; zeros once these are deleted.' CODEC(NONE) AFTER response_body_sum,
    ADD COLUMN IF NOT EXISTS backlog Bool COMMENT 'Whether the call was let through before its record was durable, as its connection allows.' CODEC(ZSTD(1)) AFTER tls_version,
    ADD COLUMN IF NOT EXISTS bodies_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes args, path, rpc_message and both bodies.' CODEC(ZSTD(1)) AFTER backlog,
    ADD COLUMN IF NOT EXISTS row_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes the row; its events stay in the ledger.' CODEC(ZSTD(1)) AFTER bodies_until,
    ADD COLUMN IF NOT EXISTS erased Nullable(DateTime) COMMENT 'When args, path, rpc_message and both bodies were erased on request; NULL where they were not.' CODEC(ZSTD(1)) AFTER row_until;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS request_body_sum FixedString(32) COMMENT 'SHA-256 of a request body of which only parts are recorded; zeros else.' CODEC(ZSTD(1)) AFTER request_body_truncated,
    ADD COLUMN IF NOT EXISTS request_salt FixedString(16) COMMENT 'Salt of the ledger''s commitment to arguments, path and request body; zeros once these are deleted.' CODEC(NONE) AFTER request_body_sum,
    ADD COLUMN IF NOT EXISTS response_body_sum FixedString(32) COMMENT 'SHA-256 of a response body of which only parts are recorded; zeros else.' CODEC(ZSTD(1)) AFTER response_body_truncated,
    ADD COLUMN IF NOT EXISTS response_salt FixedString(16) COMMENT 'Salt of the ledger''s commitment to rpc_message and response body; zeros once these are deleted.' CODEC(NONE) AFTER response_body_sum,
    ADD COLUMN IF NOT EXISTS backlog Bool COMMENT 'Whether the call was let through before its record was durable, as its connection allows.' CODEC(ZSTD(1)) AFTER tls_version,
    ADD COLUMN IF NOT EXISTS bodies_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes args, path, rpc_message and both bodies.' CODEC(ZSTD(1)) AFTER backlog,
    ADD COLUMN IF NOT EXISTS row_until DateTime DEFAULT '2106-02-07 06:28:15' COMMENT 'When retention deletes the row; its events stay in the ledger.' CODEC(ZSTD(1)) AFTER bodies_until,
    ADD COLUMN IF NOT EXISTS erased Nullable(DateTime) COMMENT 'When args, path, rpc_message and both bodies were erased on request; NULL where they were not.' CODEC(ZSTD(1)) AFTER row_until;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' DROP COLUMN IF EXISTS request_body_sha256;

ALTER TABLE callgate.calls ON CLUSTER 'trail' DROP COLUMN IF EXISTS request_body_sha256;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' DROP COLUMN IF EXISTS response_body_sha256;

ALTER TABLE callgate.calls ON CLUSTER 'trail' DROP COLUMN IF EXISTS response_body_sha256;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS request_body_sha256 FixedString(32)
        ALIAS if(request_body_sum != toFixedString('', 32), request_body_sum, if(length(request_body) = request_body_bytes, toFixedString(SHA256(request_body), 32), toFixedString('', 32)))
        COMMENT 'SHA-256 of the whole request body; zeros once it is deleted.' AFTER request_body_bytes,
    ADD COLUMN IF NOT EXISTS response_body_sha256 FixedString(32)
        ALIAS if(response_body_sum != toFixedString('', 32), response_body_sum, if(length(response_body) = response_body_bytes, toFixedString(SHA256(response_body), 32), toFixedString('', 32)))
        COMMENT 'SHA-256 of the whole response body; zeros where it was not seen, or once it is deleted.' AFTER response_body_bytes;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS request_body_sha256 FixedString(32)
        ALIAS if(request_body_sum != toFixedString('', 32), request_body_sum, if(length(request_body) = request_body_bytes, toFixedString(SHA256(request_body), 32), toFixedString('', 32)))
        COMMENT 'SHA-256 of the whole request body; zeros once it is deleted.' AFTER request_body_bytes,
    ADD COLUMN IF NOT EXISTS response_body_sha256 FixedString(32)
        ALIAS if(response_body_sum != toFixedString('', 32), response_body_sum, if(length(response_body) = response_body_bytes, toFixedString(SHA256(response_body), 32), toFixedString('', 32)))
        COMMENT 'SHA-256 of the whole response body; zeros where it was not seen, or once it is deleted.' AFTER response_body_bytes;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    MODIFY COLUMN args TTL bodies_until,
    MODIFY COLUMN path TTL bodies_until,
    MODIFY COLUMN rpc_message TTL bodies_until,
    MODIFY COLUMN request_body TTL bodies_until,
    MODIFY COLUMN request_body_tail TTL bodies_until,
    MODIFY COLUMN request_body_sum TTL bodies_until,
    MODIFY COLUMN request_salt TTL bodies_until,
    MODIFY COLUMN response_body TTL bodies_until,
    MODIFY COLUMN response_body_tail TTL bodies_until,
    MODIFY COLUMN response_body_sum TTL bodies_until,
    MODIFY COLUMN response_salt TTL bodies_until;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' MODIFY TTL row_until;

CREATE TABLE IF NOT EXISTS callgate.checkpoints_local ON CLUSTER 'trail' (
    spool LowCardinality(String) COMMENT 'The spool, which is a Merkle log of its own.' CODEC(ZSTD(1)),
    size UInt64 COMMENT 'The first so many events of the spool are signed.' CODEC(Delta, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'When it was signed, by the clock of the replica.' CODEC(Delta, ZSTD(1)),
    root FixedString(32) COMMENT 'Root of the Merkle tree (RFC 6962) over these events.' CODEC(NONE),
    node LowCardinality(String) COMMENT 'The replica.' CODEC(ZSTD(1)),
    note String COMMENT 'The signed checkpoint: C2SP tlog-checkpoint.' CODEC(ZSTD(3)),
    frontier Array(FixedString(32)) COMMENT 'Roots of the perfect subtrees, to go on from here without the events before; empty in most rows.' CODEC(ZSTD(1)),
    leaf_prefixes String COMMENT 'First four bytes of the leaf hash of each event since the checkpoint before: which one was changed, where the root tells that one was.' CODEC(NONE)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/callgate/checkpoints_local', '{replica}')
ORDER BY (spool, size, time)
COMMENT 'What was signed: from then on no event before can be changed unseen. One every few seconds while a replica runs, so silence shows.';

CREATE TABLE IF NOT EXISTS callgate.checkpoints ON CLUSTER 'trail' AS callgate.checkpoints_local
ENGINE = Distributed('trail', 'callgate', 'checkpoints_local', cityHash64(spool));

INSERT INTO callgate.schema_migrations (version, name) VALUES (5, 'ledger');

-- 0006 checkpoints

ALTER TABLE callgate.checkpoints_local ON CLUSTER 'trail'
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE callgate.events_local ON CLUSTER 'trail'
    COMMENT COLUMN kind 'decided, answered, finished, held, approved, changed, counted; unreadable where the leaf could not be decoded.';

ALTER TABLE callgate.events ON CLUSTER 'trail'
    COMMENT COLUMN kind 'decided, answered, finished, held, approved, changed, counted; unreadable where the leaf could not be decoded.';

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    COMMENT COLUMN envoy_node 'Envoy that took the call, as its access log names it; empty until that leg is here.';

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    COMMENT COLUMN envoy_node 'Envoy that took the call, as its access log names it; empty until that leg is here.';

INSERT INTO callgate.schema_migrations (version, name) VALUES (6, 'checkpoints');

-- 0007 speed

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    MODIFY COLUMN time CODEC(T64, LZ4),
    MODIFY COLUMN request_body_bytes CODEC(T64, ZSTD(1)),
    MODIFY COLUMN response_body_bytes CODEC(T64, ZSTD(1)),
    MODIFY COLUMN authz_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN hold_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN upstream_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN total_us CODEC(T64, ZSTD(1)),
    MODIFY COLUMN bytes_in CODEC(T64, ZSTD(1)),
    MODIFY COLUMN bytes_out CODEC(T64, ZSTD(1));

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' ADD INDEX IF NOT EXISTS by_subject subject TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' ADD INDEX IF NOT EXISTS by_acting acting TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' MODIFY SETTING min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1;

ALTER TABLE callgate.events_local ON CLUSTER 'trail' MODIFY SETTING min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1;

INSERT INTO callgate.schema_migrations (version, name) VALUES (7, 'speed');

-- 0008 binding

ALTER TABLE callgate.approvals_local ON CLUSTER 'trail'
    COMMENT COLUMN binding 'Hash, keyed by audit.hash_key, of all that the approval is bound to.';

ALTER TABLE callgate.approvals ON CLUSTER 'trail'
    COMMENT COLUMN binding 'Hash, keyed by audit.hash_key, of all that the approval is bound to.';

INSERT INTO callgate.schema_migrations (version, name) VALUES (8, 'binding');

-- 0009 batch

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS batch_id UUID COMMENT 'Batch that the call came in: the id of its first call. Zeros for a call that came alone.' CODEC(ZSTD(1)) AFTER rpc_id,
    ADD COLUMN IF NOT EXISTS batch_index UInt32 COMMENT 'Place in the batch, from 0.' CODEC(ZSTD(1)) AFTER batch_id,
    ADD COLUMN IF NOT EXISTS batch_size UInt32 COMMENT 'Calls in the batch; 0 for a call that came alone.' CODEC(ZSTD(1)) AFTER batch_index;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS batch_id UUID COMMENT 'Batch that the call came in: the id of its first call. Zeros for a call that came alone.' CODEC(ZSTD(1)) AFTER rpc_id,
    ADD COLUMN IF NOT EXISTS batch_index UInt32 COMMENT 'Place in the batch, from 0.' CODEC(ZSTD(1)) AFTER batch_id,
    ADD COLUMN IF NOT EXISTS batch_size UInt32 COMMENT 'Calls in the batch; 0 for a call that came alone.' CODEC(ZSTD(1)) AFTER batch_index;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1;

INSERT INTO callgate.schema_migrations (version, name) VALUES (9, 'batch');

-- 0010 originals

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS relaxed Array(LowCardinality(String)) COMMENT 'Masks that hid less from this caller than from others, and how: "cards: partial", "cards: show".' CODEC(ZSTD(1)) AFTER shadow,
    ADD COLUMN IF NOT EXISTS original_sealed String COMMENT 'The response body as the function sent it, where the caller got another: encrypted (age) for investigators, and around that for the gateway, which releases it when a second person has agreed; callgate calls unseal.' CODEC(NONE) AFTER masked.count,
    ADD COLUMN IF NOT EXISTS original_commitment String COMMENT 'HMAC-SHA256 that commits the ledger to the original; its key is sealed with it. Empty where none is kept.' CODEC(NONE) AFTER original_sealed;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS relaxed Array(LowCardinality(String)) COMMENT 'Masks that hid less from this caller than from others, and how: "cards: partial", "cards: show".' CODEC(ZSTD(1)) AFTER shadow,
    ADD COLUMN IF NOT EXISTS original_sealed String COMMENT 'The response body as the function sent it, where the caller got another: encrypted (age) for investigators, and around that for the gateway, which releases it when a second person has agreed; callgate calls unseal.' CODEC(NONE) AFTER masked.count,
    ADD COLUMN IF NOT EXISTS original_commitment String COMMENT 'HMAC-SHA256 that commits the ledger to the original; its key is sealed with it. Empty where none is kept.' CODEC(NONE) AFTER original_sealed;

ALTER TABLE callgate.calls_local ON CLUSTER 'trail' MODIFY COLUMN original_sealed TTL bodies_until;

INSERT INTO callgate.schema_migrations (version, name) VALUES (10, 'originals');

-- 0011 people

ALTER TABLE callgate.approvals_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS in_place_of String COMMENT 'The approver, as "issuer|subject", where who decided is a delegate.' CODEC(ZSTD(1)) AFTER by,
    ADD COLUMN IF NOT EXISTS stage UInt32 COMMENT 'The stage that it is about, from 1; 0 for none.' CODEC(ZSTD(1)) AFTER in_place_of,
    ADD COLUMN IF NOT EXISTS stages UInt32 COMMENT 'How many stages the rule asks.' CODEC(ZSTD(1)) AFTER stage,
    ADD COLUMN IF NOT EXISTS state LowCardinality(String) COMMENT 'Of the approval after the step: open, approved, refused, used, expired, canceled or broke_glass. Empty in rows of older versions.' CODEC(ZSTD(1)) AFTER stages,
    ADD COLUMN IF NOT EXISTS connection LowCardinality(String) COMMENT 'The connection of the call that was held.' CODEC(ZSTD(1)) AFTER rule;

ALTER TABLE callgate.approvals ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS in_place_of String COMMENT 'The approver, as "issuer|subject", where who decided is a delegate.' CODEC(ZSTD(1)) AFTER by,
    ADD COLUMN IF NOT EXISTS stage UInt32 COMMENT 'The stage that it is about, from 1; 0 for none.' CODEC(ZSTD(1)) AFTER in_place_of,
    ADD COLUMN IF NOT EXISTS stages UInt32 COMMENT 'How many stages the rule asks.' CODEC(ZSTD(1)) AFTER stage,
    ADD COLUMN IF NOT EXISTS state LowCardinality(String) COMMENT 'Of the approval after the step: open, approved, refused, used, expired, canceled or broke_glass. Empty in rows of older versions.' CODEC(ZSTD(1)) AFTER stages,
    ADD COLUMN IF NOT EXISTS connection LowCardinality(String) COMMENT 'The connection of the call that was held.' CODEC(ZSTD(1)) AFTER rule;

ALTER TABLE callgate.approvals_local ON CLUSTER 'trail'
    COMMENT COLUMN step 'asked, notified, seen, approved or refused (by one person), stage_done, used, expired, canceled, broke_glass, reviewed, granted, delegated, undelegated.',
    COMMENT COLUMN by 'Who, as "issuer|subject"; of notified the target.';

ALTER TABLE callgate.approvals ON CLUSTER 'trail'
    COMMENT COLUMN step 'asked, notified, seen, approved or refused (by one person), stage_done, used, expired, canceled, broke_glass, reviewed, granted, delegated, undelegated.',
    COMMENT COLUMN by 'Who, as "issuer|subject"; of notified the target.';

DROP VIEW IF EXISTS callgate.pending_approvals ON CLUSTER 'trail';

CREATE VIEW IF NOT EXISTS callgate.pending_approvals ON CLUSTER 'trail' AS
SELECT
    approval_id,
    any(call_id) AS held_call_id,
    any(rule) AS held_by_rule,
    any(function) AS held_function,
    min(time) AS asked_at,
    dateDiff('second', asked_at, now64(6, 'UTC')) AS waiting_s,
    max(expires) AS expires_at,
    countIf(step = 'approved') AS approved_so_far
FROM callgate.approvals
GROUP BY approval_id
HAVING countIf(step = 'asked') > 0
    AND countIf(step IN ('refused', 'used', 'expired', 'canceled') OR step = 'approved' AND state IN ('', 'approved')) = 0
    AND ifNull(expires_at > now64(6, 'UTC'), true)
ORDER BY asked_at, approval_id
COMMENT 'Approvals that people have not decided yet and that have not expired, the longest waiting first.';

DROP VIEW IF EXISTS callgate.time_to_decision ON CLUSTER 'trail';

CREATE VIEW IF NOT EXISTS callgate.time_to_decision ON CLUSTER 'trail' AS
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
    FROM callgate.approvals
    WHERE time >= now64(6, 'UTC') - toIntervalDay({days:UInt32})
    GROUP BY approval_id
    HAVING countIf(step = 'asked') > 0
)
GROUP BY held_by_rule, held_function
ORDER BY approvals DESC, held_by_rule, held_function
COMMENT 'How long people took to decide held calls, by rule and function; undecided ones expired, were given up by the caller, or still wait.';

CREATE VIEW IF NOT EXISTS callgate.open_reviews ON CLUSTER 'trail' AS
SELECT
    approval_id,
    any(call_id) AS broke_call_id,
    any(rule) AS held_by_rule,
    any(connection) AS broke_connection,
    any(function) AS broke_function,
    anyIf(by, step = 'broke_glass') AS broke_by,
    anyIf(comment, step = 'broke_glass') AS why,
    minIf(time, step = 'broke_glass') AS broke_at
FROM callgate.approvals
GROUP BY approval_id
HAVING countIf(step = 'broke_glass') > 0 AND countIf(step = 'reviewed') = 0
ORDER BY broke_at, approval_id
COMMENT 'Calls that broke glass and that nobody has reviewed yet, the oldest first.';

INSERT INTO callgate.schema_migrations (version, name) VALUES (11, 'people');

-- 0012 request_masked

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS `request_masked.rule` Array(LowCardinality(String)) COMMENT 'What was hidden of the request before the function got it: rule of mask_requests. request_body is what the function got.' CODEC(ZSTD(1)) AFTER request_salt,
    ADD COLUMN IF NOT EXISTS `request_masked.type` Array(LowCardinality(String)) COMMENT 'Detector (or path, key) that found it.' CODEC(ZSTD(1)) AFTER `request_masked.rule`,
    ADD COLUMN IF NOT EXISTS `request_masked.path` Array(String) COMMENT 'Field that it stood in.' CODEC(ZSTD(1)) AFTER `request_masked.type`,
    ADD COLUMN IF NOT EXISTS `request_masked.count` Array(UInt32) COMMENT 'How often.' CODEC(ZSTD(1)) AFTER `request_masked.path`;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS `request_masked.rule` Array(LowCardinality(String)) COMMENT 'What was hidden of the request before the function got it: rule of mask_requests. request_body is what the function got.' CODEC(ZSTD(1)) AFTER request_salt,
    ADD COLUMN IF NOT EXISTS `request_masked.type` Array(LowCardinality(String)) COMMENT 'Detector (or path, key) that found it.' CODEC(ZSTD(1)) AFTER `request_masked.rule`,
    ADD COLUMN IF NOT EXISTS `request_masked.path` Array(String) COMMENT 'Field that it stood in.' CODEC(ZSTD(1)) AFTER `request_masked.type`,
    ADD COLUMN IF NOT EXISTS `request_masked.count` Array(UInt32) COMMENT 'How often.' CODEC(ZSTD(1)) AFTER `request_masked.path`;

INSERT INTO callgate.schema_migrations (version, name) VALUES (12, 'request_masked');

-- 0013 scope

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS scope Array(String) COMMENT 'What the token was narrowed to: connections and functions (crm:refunds.*). Empty for one that was not.' CODEC(ZSTD(1)) AFTER token_expires;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS scope Array(String) COMMENT 'What the token was narrowed to: connections and functions (crm:refunds.*). Empty for one that was not.' CODEC(ZSTD(1)) AFTER token_expires;

INSERT INTO callgate.schema_migrations (version, name) VALUES (13, 'scope');

-- 0014 step_number

ALTER TABLE callgate.approvals_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS number UInt32 COMMENT 'Which step of its approval it is, from 1; 0 in rows of older versions.' CODEC(ZSTD(1)) AFTER call_id;

ALTER TABLE callgate.approvals ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS number UInt32 COMMENT 'Which step of its approval it is, from 1; 0 in rows of older versions.' CODEC(ZSTD(1)) AFTER call_id;

CREATE VIEW IF NOT EXISTS callgate.approval_steps ON CLUSTER 'trail' AS
SELECT *
FROM callgate.approvals
ORDER BY approval_id, number, time, spool, spool_index
LIMIT 1 BY approval_id, number, if(number = 0, spool, ''), if(number = 0, spool_index, 0)
COMMENT 'The history of approvals, each step once: approvals with the few left out that two replicas recorded, since one was away before it could say that it had.';

DROP VIEW IF EXISTS callgate.pending_approvals ON CLUSTER 'trail';

CREATE VIEW IF NOT EXISTS callgate.pending_approvals ON CLUSTER 'trail' AS
SELECT
    approval_id,
    any(call_id) AS held_call_id,
    any(rule) AS held_by_rule,
    any(function) AS held_function,
    min(time) AS asked_at,
    dateDiff('second', asked_at, now64(6, 'UTC')) AS waiting_s,
    max(expires) AS expires_at,
    countIf(step = 'approved') AS approved_so_far
FROM callgate.approval_steps
GROUP BY approval_id
HAVING countIf(step = 'asked') > 0
    AND countIf(step IN ('refused', 'used', 'expired', 'canceled') OR step = 'approved' AND state IN ('', 'approved')) = 0
    AND ifNull(expires_at > now64(6, 'UTC'), true)
ORDER BY asked_at, approval_id
COMMENT 'Approvals that people have not decided yet and that have not expired, the longest waiting first.';

INSERT INTO callgate.schema_migrations (version, name) VALUES (14, 'step_number');

-- 0015 request_stream_masked

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS `request_stream_masked.rule` Array(LowCardinality(String)) COMMENT 'What was hidden of messages that streamed to the function after the decision: rule of mask_requests.' CODEC(ZSTD(1)) AFTER `request_masked.count`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.type` Array(LowCardinality(String)) COMMENT 'Detector (or path, key) that found it.' CODEC(ZSTD(1)) AFTER `request_stream_masked.rule`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.path` Array(String) COMMENT 'Field that it stood in.' CODEC(ZSTD(1)) AFTER `request_stream_masked.type`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.count` Array(UInt32) COMMENT 'How often.' CODEC(ZSTD(1)) AFTER `request_stream_masked.path`;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS `request_stream_masked.rule` Array(LowCardinality(String)) COMMENT 'What was hidden of messages that streamed to the function after the decision: rule of mask_requests.' CODEC(ZSTD(1)) AFTER `request_masked.count`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.type` Array(LowCardinality(String)) COMMENT 'Detector (or path, key) that found it.' CODEC(ZSTD(1)) AFTER `request_stream_masked.rule`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.path` Array(String) COMMENT 'Field that it stood in.' CODEC(ZSTD(1)) AFTER `request_stream_masked.type`,
    ADD COLUMN IF NOT EXISTS `request_stream_masked.count` Array(UInt32) COMMENT 'How often.' CODEC(ZSTD(1)) AFTER `request_stream_masked.path`;

INSERT INTO callgate.schema_migrations (version, name) VALUES (15, 'request_stream_masked');

-- 0016 response_shadow

ALTER TABLE callgate.calls_local ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS response_shadow Array(LowCardinality(String)) COMMENT 'What rules in shadow would have done with tool calls in the response: "tool get_keys: deny: never", or the tool and the rule in shadow that would have matched.' CODEC(ZSTD(1)) AFTER masked.count;

ALTER TABLE callgate.calls ON CLUSTER 'trail'
    ADD COLUMN IF NOT EXISTS response_shadow Array(LowCardinality(String)) COMMENT 'What rules in shadow would have done with tool calls in the response: "tool get_keys: deny: never", or the tool and the rule in shadow that would have matched.' CODEC(ZSTD(1)) AFTER masked.count;

INSERT INTO callgate.schema_migrations (version, name) VALUES (16, 'response_shadow');
