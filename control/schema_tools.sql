-- What MCP servers say of their tools, and which of it was accepted.
CREATE TABLE tools (
	connection  TEXT NOT NULL,
	name        TEXT NOT NULL,
	accepted    BLOB NOT NULL,        -- canonical JSON; empty: never
	offered     BLOB NOT NULL,        -- as last offered; empty: the server has it no more
	author      TEXT NOT NULL,        -- who accepted it
	reason      TEXT NOT NULL,
	accepted_at INTEGER NOT NULL,     -- unix nanoseconds
	offered_at  INTEGER NOT NULL,     -- when what is offered was first seen
	PRIMARY KEY (connection, name)
) STRICT;

-- The connections whose tools were asked for at least once.
CREATE TABLE tool_servers (
	connection TEXT PRIMARY KEY,
	first      INTEGER NOT NULL
) STRICT;
