-- How many of a session's messages are those of earlier agent frames.
ALTER TABLE sessions ADD COLUMN frame_start INTEGER NOT NULL DEFAULT 0;
