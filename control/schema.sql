-- Every version that was ever activated or refused, complete in itself.
CREATE TABLE versions (
	version TEXT PRIMARY KEY,
	bundle  BLOB NOT NULL,            -- callgate.policy.v1.Policy, gzip
	source  TEXT NOT NULL,            -- files or push
	author  TEXT NOT NULL,
	message TEXT NOT NULL,
	created INTEGER NOT NULL          -- unix nanoseconds
) STRICT;

-- What was done with them, in order. The last row is what holds now.
CREATE TABLE rollouts (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	at      INTEGER NOT NULL,
	action  TEXT NOT NULL,            -- push, files, rollback, canary, promote, abort, refused
	stable  TEXT NOT NULL,
	canary  TEXT NOT NULL,
	percent INTEGER NOT NULL,
	nodes   TEXT NOT NULL,            -- a selector
	author  TEXT NOT NULL,
	message TEXT NOT NULL
) STRICT;

CREATE TABLE grants (
	id      TEXT PRIMARY KEY,
	content BLOB NOT NULL,            -- callgate.policy.v1.Grant
	author  TEXT NOT NULL,
	reason  TEXT NOT NULL,
	created INTEGER NOT NULL,
	until   INTEGER NOT NULL,         -- 0: it does not end
	revoked INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE revocations (
	id      TEXT PRIMARY KEY,
	content BLOB NOT NULL,            -- callgate.policy.v1.Revocation
	author  TEXT NOT NULL,
	reason  TEXT NOT NULL,
	created INTEGER NOT NULL,
	expires INTEGER NOT NULL,         -- when no token it is about can be valid any more; 0: never
	lifted  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What is remembered beside: the version that the files last had, and such.
CREATE TABLE facts (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT;
