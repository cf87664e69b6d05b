-- What turns that are not committed yet have to know of their earlier attempts, as JSON.
CREATE TABLE journal (
    session_id TEXT NOT NULL,
    turn_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (session_id, turn_id, key)
) WITHOUT ROWID;
