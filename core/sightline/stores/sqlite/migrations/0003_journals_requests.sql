-- What turns that are not committed yet have to know of their earlier attempts, as JSON.
CREATE TABLE journal (
    session_id TEXT NOT NULL,
    turn_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (session_id, turn_id, key)
) WITHOUT ROWID;

-- What turns ask of people. Answered ones are kept for a while when their turn is committed, from `ended_at_ms` on.
-- The sequence is the order in which the open ones came.
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    turn_id TEXT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    prompt TEXT NOT NULL,
    options TEXT,
    at_ms INTEGER NOT NULL,
    answer TEXT,
    ended_at_ms INTEGER,
    UNIQUE (session_id, turn_id, key)
);
CREATE INDEX requests_open ON requests (session_id, seq) WHERE answer IS NULL;
CREATE INDEX requests_ended ON requests (ended_at_ms, request_id) WHERE ended_at_ms IS NOT NULL;
