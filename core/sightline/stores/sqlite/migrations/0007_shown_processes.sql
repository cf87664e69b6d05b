-- What a list of processes shows without a look into their logs: whether somebody wants the end, and how far it has come.
ALTER TABLE processes ADD COLUMN cancel_requested INTEGER NOT NULL DEFAULT 0;
ALTER TABLE processes ADD COLUMN progress TEXT;
UPDATE processes SET cancel_requested = 1 WHERE EXISTS (
    SELECT 1 FROM process_events
    WHERE process_events.process_id = processes.process_id AND event_type = 'process.cancel_requested'
);
