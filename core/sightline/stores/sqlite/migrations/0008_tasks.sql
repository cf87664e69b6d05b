-- Background tasks of sessions. The record stands in one value; the columns beside it are what rows are found by.
-- AUTOINCREMENT, because a generation never comes again. `place` is the order inside a session, which is another one
-- for tasks that were handed to it. `completed_at_ms` is there once a task has ended.
CREATE TABLE tasks (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    flavour TEXT NOT NULL CHECK (flavour IN ('managed', 'external')),
    kind TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    completed_at_ms INTEGER,
    record TEXT NOT NULL,
    UNIQUE (session_id, task_id)
);
CREATE INDEX tasks_of_session ON tasks (session_id, place);
CREATE INDEX tasks_live ON tasks (session_id, place) WHERE completed_at_ms IS NULL;
CREATE INDEX tasks_live_by_kind ON tasks (kind, generation) WHERE completed_at_ms IS NULL;
CREATE INDEX tasks_managed ON tasks (generation) WHERE completed_at_ms IS NULL AND flavour = 'managed';
CREATE INDEX tasks_ended ON tasks (completed_at_ms) WHERE completed_at_ms IS NOT NULL;

-- What sessions watch, and how each of it stands.
CREATE TABLE monitors (
    session_id TEXT NOT NULL,
    monitor_id TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (session_id, monitor_id)
) WITHOUT ROWID;
