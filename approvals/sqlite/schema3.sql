-- Version 3: how many open holds a caller has.

CREATE INDEX holds_open_of ON holds (issuer, subject) WHERE state = 'open';
