-- Signing keys of this issuer, private parts included.
CREATE TABLE keys (
  kid     TEXT PRIMARY KEY,
  jwk     TEXT NOT NULL,    -- RFC 7517
  created INTEGER NOT NULL  -- Unix seconds
) STRICT;

-- Assertions that were exchanged, by a hash of provider and id.
CREATE TABLE used (
  id    BLOB PRIMARY KEY,
  until INTEGER NOT NULL    -- Unix seconds; after it the assertion is no good anyway
) STRICT, WITHOUT ROWID;
CREATE INDEX used_until ON used (until);
