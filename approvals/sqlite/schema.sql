-- Version 1. A change of the schema is another file's worth of statements,
-- never an edit of these.

CREATE TABLE holds (
	id               TEXT PRIMARY KEY,
	call_id          TEXT NOT NULL,
	binding          BLOB NOT NULL CHECK (length(binding) = 32),
	policy_version   TEXT NOT NULL,
	rule             TEXT NOT NULL,
	message          TEXT NOT NULL,
	identity         TEXT NOT NULL, -- JSON, without claims
	approvers        TEXT NOT NULL, -- JSON
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
	-- Times are nanoseconds since 1970; 0 is not yet.
	asked_at         INTEGER NOT NULL,
	expires          INTEGER NOT NULL,
	state            TEXT NOT NULL CHECK (state IN ('open', 'approved', 'refused', 'used', 'expired', 'canceled')),
	decided_by       TEXT NOT NULL DEFAULT '',
	comment          TEXT NOT NULL DEFAULT '',
	decided_at       INTEGER NOT NULL DEFAULT 0,
	ended_at         INTEGER NOT NULL DEFAULT 0,
	used_at          INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX holds_asked ON holds (asked_at, id);
CREATE INDEX holds_state ON holds (state, asked_at, id);
CREATE INDEX holds_open ON holds (expires) WHERE state = 'open';
CREATE INDEX holds_ended ON holds (ended_at) WHERE ended_at > 0;

-- What changed, in the order it was committed: a writer holds the only write
-- lock, so a number is never seen before a smaller one.
CREATE TABLE changes (
	seq  INTEGER PRIMARY KEY AUTOINCREMENT,
	hold TEXT NOT NULL
) STRICT;

CREATE TRIGGER holds_changed AFTER UPDATE OF state ON holds WHEN OLD.state <> NEW.state
BEGIN
	INSERT INTO changes (hold) VALUES (NEW.id);
END;

CREATE TRIGGER holds_pruned AFTER DELETE ON holds
BEGIN
	DELETE FROM changes WHERE hold = OLD.id;
END;

CREATE INDEX changes_hold ON changes (hold);
