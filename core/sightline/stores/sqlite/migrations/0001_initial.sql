-- Facts about the database itself. `incarnation` counts its openings by a server.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('incarnation', 0), ('touches', 0);

-- The head of each session: everything whose size does not grow with the transcript.
-- `touched` grows by one with every change that makes a session newer in the list.
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    turn_index INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    agent_frame_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    metadata TEXT NOT NULL,
    usage TEXT NOT NULL,
    title TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    touched INTEGER NOT NULL UNIQUE
) WITHOUT ROWID;

-- Ids that must never mean another session again.
CREATE TABLE deleted_sessions (
    session_id TEXT PRIMARY KEY,
    deleted_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE messages (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (session_id, seq),
    UNIQUE (session_id, message_id)
) WITHOUT ROWID;

-- Work. AUTOINCREMENT, because a sequence that comes back would repeat claim ids.
-- The fencing counter of a row survives the claim; the claim's own columns do not.
CREATE TABLE batches (
    enqueue_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    source_key TEXT,
    content_hash TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'claimed', 'completed', 'cancelled', 'failed')),
    delivery_policy TEXT NOT NULL,
    slot_policy TEXT NOT NULL,
    merge_key TEXT NOT NULL,
    available_at_ms INTEGER NOT NULL,
    enqueued_at_ms INTEGER NOT NULL,
    items TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    turn_id TEXT,
    error TEXT,
    cancel_requested TEXT,
    ended_at_ms INTEGER,
    fencing INTEGER NOT NULL DEFAULT 0,
    claim_id TEXT,
    claim_owner_id TEXT,
    claim_token TEXT,
    claim_expires_at_ms INTEGER,
    UNIQUE (session_id, source_key)
);
CREATE INDEX batches_by_session ON batches (session_id, enqueue_seq);
CREATE INDEX batches_open ON batches (session_id, enqueue_seq) WHERE ended_at_ms IS NULL;
CREATE INDEX batches_pending ON batches (available_at_ms, session_id, enqueue_seq) WHERE state = 'pending';
CREATE INDEX batches_claimed ON batches (claim_expires_at_ms, session_id) WHERE state = 'claimed';
CREATE INDEX batches_ended ON batches (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- Work that was cancelled by its key before it arrived.
CREATE TABLE cancelled_keys (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    source_key TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (session_id, source_key)
) WITHOUT ROWID;

-- One stamp per committed turn: the proof that makes a repeated commit harmless.
CREATE TABLE turns (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id TEXT NOT NULL,
    hash TEXT NOT NULL,
    status TEXT NOT NULL,
    revision INTEGER NOT NULL,
    turn_index INTEGER NOT NULL,
    agent_frame_id TEXT NOT NULL,
    PRIMARY KEY (session_id, turn_id)
) WITHOUT ROWID;
