-- Version 4: sessions of MCP whose client can show its person a page.

CREATE TABLE sessions (
	id    BLOB PRIMARY KEY,
	until INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX sessions_until ON sessions (until);
