-- What each turn used, for whoever accounts for it elsewhere: nothing (null), or all of it.
ALTER TABLE turns ADD COLUMN usage TEXT;

-- What a worker polls with, read from the index alone as far as processes go that somebody has.
DROP INDEX processes_runnable;
CREATE INDEX processes_runnable ON processes (process_id, lease_owner_id, lease_expires_at_ms, host_profile_id)
WHERE status = 'running' AND disposition <> 'externally_owned';

-- Values that are too large to stand in a log, which names them by what they hold. Not without row ids: those rows are
-- large.
CREATE TABLE process_values (
    process_id TEXT NOT NULL,
    attachment_id TEXT NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (process_id, attachment_id)
);
