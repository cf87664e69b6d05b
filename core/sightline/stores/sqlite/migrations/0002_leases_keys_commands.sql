-- The session lease stands with the head it guards: a commit proves it, moves the head and frees it in one row.
-- The generation of an owner that released or died stays, so that the next is larger.
ALTER TABLE sessions ADD COLUMN lease_generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN lease_owner_id TEXT;
ALTER TABLE sessions ADD COLUMN lease_token TEXT;
ALTER TABLE sessions ADD COLUMN lease_expires_at_ms INTEGER NOT NULL DEFAULT 0;
-- How many batches are open is counted with the head too: a full queue is known without walking it.
ALTER TABLE sessions ADD COLUMN open_batches INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET open_batches = (
    SELECT count(*) FROM batches WHERE batches.session_id = sessions.session_id AND ended_at_ms IS NULL
);
ALTER TABLE sessions ADD COLUMN tools TEXT NOT NULL DEFAULT '{"generation":0,"catalog":[],"error":null}';

-- From here on no foreign keys where every turn writes: each write meets its session's own row anyway, and a deletion
-- names what goes with it.

-- Source keys outlive the work they brought. Without a hash: work that was cancelled before it arrived.
-- `ended` is there once the batch was forgotten: what is left of it.
CREATE TABLE source_keys (
    session_id TEXT NOT NULL,
    source_key TEXT NOT NULL,
    used_at_ms INTEGER NOT NULL,
    content_hash TEXT,
    batch_id TEXT,
    ended TEXT,
    PRIMARY KEY (session_id, source_key)
) WITHOUT ROWID;
INSERT INTO source_keys (session_id, source_key, used_at_ms, content_hash, batch_id)
SELECT session_id, source_key, enqueued_at_ms, content_hash, batch_id FROM batches WHERE source_key IS NOT NULL;
INSERT INTO source_keys (session_id, source_key, used_at_ms)
SELECT session_id, source_key, at_ms FROM cancelled_keys WHERE true ON CONFLICT DO NOTHING;
CREATE INDEX source_keys_old ON source_keys (used_at_ms) WHERE batch_id IS NULL OR ended IS NOT NULL;
DROP TABLE cancelled_keys;

-- Batches anew: their keys are told above, a claim knows how many rows it has and under which lease it was taken, and
-- there are fewer indexes to keep. The sequence goes on where it was.
CREATE TABLE batches_anew (
    enqueue_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    source_key TEXT,
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
    claim_size INTEGER,
    claim_generation INTEGER,
    claim_expires_at_ms INTEGER
);
INSERT INTO batches_anew (enqueue_seq, batch_id, session_id, source_key, state, delivery_policy, slot_policy, merge_key,
    available_at_ms, enqueued_at_ms, items, attempts, turn_id, error, cancel_requested, ended_at_ms, fencing)
SELECT enqueue_seq, batch_id, session_id, source_key, CASE state WHEN 'claimed' THEN 'pending' ELSE state END,
    delivery_policy, slot_policy, merge_key, available_at_ms, enqueued_at_ms, items, attempts, turn_id, error,
    cancel_requested, ended_at_ms, fencing
FROM batches;
DELETE FROM sqlite_sequence WHERE name = 'batches_anew';
INSERT INTO sqlite_sequence (name, seq) SELECT 'batches_anew', seq FROM sqlite_sequence WHERE name = 'batches';
DROP TABLE batches;
ALTER TABLE batches_anew RENAME TO batches;
CREATE INDEX batches_by_session ON batches (session_id, enqueue_seq);
CREATE INDEX batches_open ON batches (session_id, enqueue_seq) WHERE ended_at_ms IS NULL;
CREATE INDEX batches_of_turns ON batches (session_id, turn_id, enqueue_seq) WHERE ended_at_ms IS NULL AND turn_id IS NOT NULL;
CREATE INDEX batches_delayed ON batches (available_at_ms) WHERE ended_at_ms IS NULL AND available_at_ms > enqueued_at_ms;
CREATE INDEX batches_ended ON batches (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- The order of activity is counted by the server that has the file.
DELETE FROM meta WHERE name = 'touches';
