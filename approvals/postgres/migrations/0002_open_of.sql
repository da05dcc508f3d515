-- How many open holds a caller has.

CREATE INDEX holds_open_of ON callgate.holds (issuer, subject) WHERE state = 'open';
