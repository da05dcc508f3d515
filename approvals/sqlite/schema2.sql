-- Version 2: several people decide, in stages; each step stands by itself, and
-- waits for those who are told of it.

CREATE TABLE holds2 (
	id               TEXT PRIMARY KEY,
	call_id          TEXT NOT NULL,
	binding          BLOB NOT NULL CHECK (length(binding) = 32),
	policy_version   TEXT NOT NULL,
	rule             TEXT NOT NULL,
	message          TEXT NOT NULL,
	identity         TEXT NOT NULL, -- JSON, without claims
	issuer           TEXT NOT NULL, -- of the identity, as is the subject
	subject          TEXT NOT NULL,
	terms            TEXT NOT NULL, -- JSON: who is asked, and how
	connection       TEXT NOT NULL,
	protocol         TEXT NOT NULL,
	function         TEXT NOT NULL,
	args             BLOB,          -- JSON
	method           TEXT NOT NULL,
	authority        TEXT NOT NULL,
	path             TEXT NOT NULL,
	content_type     TEXT NOT NULL,
	content_encoding TEXT NOT NULL,
	body             BLOB,
	break_glass      TEXT NOT NULL DEFAULT '',
	owner            TEXT NOT NULL DEFAULT '',
	targets          TEXT NOT NULL DEFAULT '[]', -- JSON
	-- Times are nanoseconds since 1970; 0 is not yet.
	asked_at         INTEGER NOT NULL,
	expires          INTEGER NOT NULL,
	state            TEXT NOT NULL CHECK (state IN ('open', 'approved', 'refused', 'used', 'expired', 'canceled', 'broke_glass')),
	stage            INTEGER NOT NULL DEFAULT 0,
	verdicts         TEXT NOT NULL DEFAULT '[]', -- JSON
	marks            TEXT NOT NULL DEFAULT '[]', -- JSON
	steps            INTEGER NOT NULL DEFAULT 0,
	attempts         INTEGER NOT NULL DEFAULT 1,
	ended_at         INTEGER NOT NULL DEFAULT 0,
	use_by           INTEGER NOT NULL DEFAULT 0,
	used_at          INTEGER NOT NULL DEFAULT 0,
	used_for         TEXT NOT NULL DEFAULT '',
	review           TEXT NOT NULL DEFAULT '', -- JSON
	reviewed_at      INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO holds2 (id, call_id, binding, policy_version, rule, message, identity, issuer, subject, terms, connection, protocol, function, args,
	method, authority, path, content_type, content_encoding, body, asked_at, expires, state, stage, verdicts, ended_at, use_by, used_at, used_for)
SELECT id, call_id, binding, policy_version, rule, message, identity, coalesce(identity ->> 'issuer', ''), coalesce(identity ->> 'subject', ''),
	json_object('stages', json_array(json(approvers)), 'timeout', expires - asked_at), connection, protocol, function, args,
	method, authority, path, content_type, content_encoding, body, asked_at, expires, state, state IN ('approved', 'used'),
	CASE WHEN decided_by = '' THEN '[]' ELSE json_array(json_object(
		'approve', json(iif(state IN ('approved', 'used'), 'true', 'false')),
		'by', json_object('issuer', substr(decided_by, 1, instr(decided_by, '|') - 1), 'subject', substr(decided_by, instr(decided_by, '|') + 1)),
		'stage', 0, 'comment', comment,
		'at', strftime('%Y-%m-%dT%H:%M:%SZ', decided_at / 1000000000, 'unixepoch'))) END,
	ended_at, iif(state IN ('approved', 'used'), expires + 10000000000, 0), used_at, iif(state = 'used', call_id, '')
FROM holds;

DROP TABLE holds; -- with its triggers
DROP TABLE changes;
ALTER TABLE holds2 RENAME TO holds;

CREATE INDEX holds_asked ON holds (asked_at, id);
CREATE INDEX holds_state ON holds (state, asked_at, id);
CREATE INDEX holds_open ON holds (expires) WHERE state = 'open';
CREATE INDEX holds_approved ON holds (use_by) WHERE state = 'approved';
CREATE INDEX holds_ended ON holds (ended_at) WHERE ended_at > 0;
CREATE INDEX holds_unreviewed ON holds (asked_at, id) WHERE state = 'broke_glass' AND reviewed_at = 0;
CREATE INDEX holds_binding ON holds (binding, asked_at);
CREATE INDEX holds_caller ON holds (issuer, subject, connection, function, ended_at) WHERE state IN ('approved', 'used');
CREATE INDEX holds_call ON holds (call_id);
CREATE INDEX holds_used_for ON holds (used_for) WHERE used_for <> '';

-- What happened to holds, in the order it was committed: a writer holds the only
-- write lock, so a number is never seen before a smaller one.
CREATE TABLE steps (
	seq  INTEGER PRIMARY KEY AUTOINCREMENT,
	hold TEXT NOT NULL,
	n    INTEGER NOT NULL,
	step TEXT NOT NULL, -- JSON
	UNIQUE (hold, n)
) STRICT;

-- What targets are still to be told. A notice that is leased is due when the
-- lease is over.
CREATE TABLE notices (
	hold     TEXT NOT NULL,
	target   TEXT NOT NULL,
	n        INTEGER NOT NULL, -- of the step
	due      INTEGER NOT NULL,
	attempts INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (hold, target, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX notices_due ON notices (target, due);

CREATE TRIGGER holds_pruned AFTER DELETE ON holds
BEGIN
	DELETE FROM steps WHERE hold = OLD.id;
	DELETE FROM notices WHERE hold = OLD.id;
END;

CREATE TABLE delegations (
	id      TEXT PRIMARY KEY,
	data    TEXT NOT NULL, -- JSON
	created INTEGER NOT NULL,
	until   INTEGER NOT NULL,
	ended   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX delegations_until ON delegations (until);

CREATE TABLE replicas (
	id          TEXT PRIMARY KEY,
	alive_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
