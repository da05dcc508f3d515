-- Sessions of MCP whose client can show its person a page.

CREATE TABLE callgate.sessions (
	id    bytea PRIMARY KEY,
	until bigint NOT NULL
);

CREATE INDEX sessions_until ON callgate.sessions (until);
