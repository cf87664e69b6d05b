-- Processes. What was registered stands in one value, but for the types of events, which many processes have in common;
-- what changes has columns of its own.
-- AUTOINCREMENT, because the list is paged by the position. The fencing token of an owner that released or died stays.
CREATE TABLE processes (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    process_id TEXT NOT NULL UNIQUE,
    registration_hash TEXT NOT NULL,
    kind TEXT NOT NULL,
    disposition TEXT NOT NULL,
    host_profile_id TEXT NOT NULL,
    registration TEXT NOT NULL,
    event_types TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed', 'cancelled', 'abandoned')),
    output TEXT,
    external_ref TEXT,
    last_sequence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    started_at_ms INTEGER,
    fencing INTEGER NOT NULL DEFAULT 0,
    lease_owner_id TEXT,
    lease_token TEXT,
    lease_claimed_at_ms INTEGER NOT NULL DEFAULT 0,
    lease_expires_at_ms INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX processes_by_status ON processes (status, position);
CREATE INDEX processes_by_kind ON processes (kind, position);
CREATE INDEX processes_runnable ON processes (process_id) WHERE status = 'running' AND disposition <> 'externally_owned';

CREATE TABLE process_events (
    process_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    replay_key TEXT,
    body TEXT NOT NULL,
    PRIMARY KEY (process_id, sequence)
) WITHOUT ROWID;
CREATE UNIQUE INDEX process_events_by_key ON process_events (process_id, replay_key) WHERE replay_key IS NOT NULL;
CREATE INDEX process_events_by_type ON process_events (process_id, event_type, sequence);

-- Who sees a process: a session, or one frame of it (blank: the session itself).
CREATE TABLE process_grants (
    session_id TEXT NOT NULL,
    agent_frame_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    descriptor TEXT NOT NULL,
    PRIMARY KEY (session_id, agent_frame_id, process_id)
) WITHOUT ROWID;
CREATE INDEX process_grants_by_process ON process_grants (process_id);

-- The outbox: wakes that are asked for, each of a process once, for good. A settled one stays, so that it is not asked
-- for again.
CREATE TABLE process_wakes (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    process_id TEXT NOT NULL,
    wake_id TEXT NOT NULL,
    wake TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'enqueued', 'discarded')),
    settled_at_ms INTEGER,
    UNIQUE (process_id, wake_id)
);
CREATE INDEX process_wakes_pending ON process_wakes (position) WHERE state = 'pending';
