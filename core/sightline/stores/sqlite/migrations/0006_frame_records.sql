-- The agent frames of sessions behind their initial one, in the order in which they began.
CREATE TABLE frames (
    seq INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    frame_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
);
CREATE INDEX frames_of_session ON frames (session_id, seq);

-- Of those that began before they were written down, the current one is known, and when it was there at the latest.
INSERT INTO frames (session_id, frame_id, reason, created_at_ms)
SELECT session_id, agent_frame_id, 'continue_as', updated_at_ms FROM sessions WHERE agent_frame_id <> 'initial';
