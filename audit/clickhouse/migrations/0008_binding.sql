ALTER TABLE {{table "approvals"}}
    COMMENT COLUMN binding 'Hash, keyed by audit.hash_key, of all that the approval is bound to.'
