-- Numbered and forward only: a change of the schema is another file, never an
-- edit of this one. Times are nanoseconds since 1970, 0 is not yet. What callers
-- write is bytea, since texts of PostgreSQL hold neither NUL nor broken UTF-8.

CREATE TABLE callgate.holds (
	id               text PRIMARY KEY,
	call_id          uuid NOT NULL,
	binding          bytea NOT NULL CHECK (length(binding) = 32),
	policy_version   text NOT NULL,
	rule             text NOT NULL,
	message          text NOT NULL,
	identity         text NOT NULL, -- JSON, without claims
	issuer           bytea NOT NULL, -- of the identity, as is the subject
	subject          bytea NOT NULL,
	terms            text NOT NULL, -- JSON: who is asked, and how
	connection       text NOT NULL,
	protocol         text NOT NULL,
	function         bytea NOT NULL,
	args             bytea,         -- JSON
	method           bytea NOT NULL,
	authority        bytea NOT NULL,
	path             bytea NOT NULL,
	content_type     bytea NOT NULL,
	content_encoding bytea NOT NULL,
	body             bytea,
	break_glass      bytea NOT NULL,
	owner            text NOT NULL,
	targets          text NOT NULL, -- JSON
	asked_at         bigint NOT NULL,
	expires          bigint NOT NULL,
	state            text NOT NULL CHECK (state IN ('open', 'approved', 'refused', 'used', 'expired', 'canceled', 'broke_glass')),
	stage            integer NOT NULL DEFAULT 0,
	verdicts         text NOT NULL DEFAULT '[]', -- JSON
	marks            text NOT NULL DEFAULT '[]', -- JSON
	steps            integer NOT NULL DEFAULT 0,
	attempts         integer NOT NULL DEFAULT 1,
	ended_at         bigint NOT NULL DEFAULT 0,
	use_by           bigint NOT NULL DEFAULT 0,
	used_at          bigint NOT NULL DEFAULT 0,
	used_for         uuid,
	review           text NOT NULL DEFAULT '', -- JSON
	reviewed_at      bigint NOT NULL DEFAULT 0
);

-- Bodies are compressed already or not worth it.
ALTER TABLE callgate.holds ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE INDEX holds_asked ON callgate.holds (asked_at, id);
CREATE INDEX holds_state ON callgate.holds (state, asked_at, id);
CREATE INDEX holds_open ON callgate.holds (expires) WHERE state = 'open';
CREATE INDEX holds_approved ON callgate.holds (use_by) WHERE state = 'approved';
CREATE INDEX holds_ended ON callgate.holds (ended_at) WHERE ended_at > 0;
CREATE INDEX holds_unreviewed ON callgate.holds (asked_at, id) WHERE state = 'broke_glass' AND reviewed_at = 0;
CREATE INDEX holds_binding ON callgate.holds (binding) WHERE state IN ('open', 'approved', 'refused');
CREATE INDEX holds_caller ON callgate.holds (issuer, subject, connection, function, ended_at) WHERE state IN ('approved', 'used');
CREATE INDEX holds_call ON callgate.holds (call_id);
CREATE INDEX holds_used_for ON callgate.holds (used_for) WHERE used_for IS NOT NULL;

-- What happened to holds. A transaction's number tells readers what they can't
-- have seen: a sequence's numbers are not committed in their order.
CREATE TABLE callgate.steps (
	hold text NOT NULL REFERENCES callgate.holds ON DELETE CASCADE,
	n    integer NOT NULL,
	step text NOT NULL, -- JSON
	xid  xid8 NOT NULL DEFAULT pg_current_xact_id(),
	PRIMARY KEY (hold, n)
);

CREATE INDEX steps_xid ON callgate.steps (xid);

-- What targets are still to be told. A notice that is leased is due when the
-- lease is over.
CREATE TABLE callgate.notices (
	hold     text NOT NULL REFERENCES callgate.holds ON DELETE CASCADE,
	target   text NOT NULL,
	n        integer NOT NULL, -- of the step
	due      bigint NOT NULL,
	attempts integer NOT NULL DEFAULT 0,
	PRIMARY KEY (hold, target, n)
);

CREATE INDEX notices_due ON callgate.notices (target, due);

CREATE TABLE callgate.delegations (
	id      text PRIMARY KEY,
	data    text NOT NULL, -- JSON
	created bigint NOT NULL,
	until   bigint NOT NULL,
	ended   bigint NOT NULL DEFAULT 0
);

CREATE INDEX delegations_until ON callgate.delegations (until);

CREATE TABLE callgate.replicas (
	id          text PRIMARY KEY,
	alive_until bigint NOT NULL
);
