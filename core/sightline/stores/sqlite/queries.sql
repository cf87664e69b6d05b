-- name: bump_incarnation
-- Another life of the database begins; its number.
UPDATE meta SET value = value + 1 WHERE name = 'incarnation' RETURNING value;

-- name: void_claims
-- No other owner lives (the file lock proves it): what former owners held is pending again.
UPDATE batches SET state = 'pending', claim_id = NULL, claim_owner_id = NULL, claim_token = NULL, claim_expires_at_ms = NULL
WHERE state = 'claimed';

-- name: next_touch
UPDATE meta SET value = value + 1 WHERE name = 'touches' RETURNING value;

-- name: is_deleted
SELECT 1 FROM deleted_sessions WHERE session_id = :session_id;

-- name: session_exists
SELECT 1 FROM sessions WHERE session_id = :session_id;

-- name: insert_session
INSERT INTO sessions (session_id, revision, turn_index, message_count, agent_frame_id, policy, metadata, usage, title,
    created_at_ms, updated_at_ms, touched)
VALUES (:session_id, 0, 0, 0, :agent_frame_id, :policy, :metadata, :usage, '', :now, :now, :touched);

-- name: get_session
SELECT session_id, revision, turn_index, message_count, agent_frame_id, policy, metadata, usage, title, created_at_ms,
    updated_at_ms
FROM sessions WHERE session_id = :session_id;

-- name: list_sessions
-- One page of the list, newest activity first, with what the status is derived from. Filtering by status happens on these counts.
SELECT session_id, revision, updated_at_ms, metadata, title, touched, pending, claimed FROM (
    SELECT s.session_id, s.revision, s.updated_at_ms, s.metadata, s.title, s.touched,
        (SELECT count(*) FROM batches b WHERE b.session_id = s.session_id AND b.ended_at_ms IS NULL AND b.state = 'pending') AS pending,
        (SELECT count(*) FROM batches b WHERE b.session_id = s.session_id AND b.ended_at_ms IS NULL AND b.state = 'claimed') AS claimed
    FROM sessions s WHERE s.touched < :after
)
WHERE :status IS NULL
    OR (:status = 'running' AND claimed > 0)
    OR (:status = 'queued' AND claimed = 0 AND pending > 0)
    OR (:status = 'idle' AND claimed = 0 AND pending = 0)
ORDER BY touched DESC LIMIT :limit;

-- name: delete_session
DELETE FROM sessions WHERE session_id = :session_id;

-- name: fence_session
INSERT INTO deleted_sessions (session_id, deleted_at_ms) VALUES (:session_id, :now);

-- name: update_head
-- The head moves only from the revision the turn began with.
UPDATE sessions SET revision = revision + 1, turn_index = turn_index + 1, message_count = message_count + :appended,
    usage = :usage, title = CASE title WHEN '' THEN :title ELSE title END, updated_at_ms = :now, touched = :touched
WHERE session_id = :session_id AND revision = :expected;

-- name: touch_session
UPDATE sessions SET updated_at_ms = :now, touched = :touched WHERE session_id = :session_id;

-- name: insert_message
INSERT INTO messages (session_id, seq, message_id, body) VALUES (:session_id, :seq, :message_id, :body);

-- name: newest_messages
SELECT seq, body FROM messages WHERE session_id = :session_id AND seq < :before ORDER BY seq DESC LIMIT :limit;

-- name: message_seq
SELECT seq FROM messages WHERE session_id = :session_id AND message_id = :message_id;

-- name: insert_batch
INSERT INTO batches (batch_id, session_id, source_key, content_hash, state, delivery_policy, slot_policy, merge_key,
    available_at_ms, enqueued_at_ms, items, ended_at_ms)
VALUES (:batch_id, :session_id, :source_key, :content_hash, :state, :delivery_policy, :slot_policy, :merge_key,
    :available_at_ms, :now, :items, :ended_at_ms)
RETURNING enqueue_seq;

-- name: batch_by_key
SELECT * FROM batches WHERE session_id = :session_id AND source_key = :source_key;

-- name: batch_by_id
SELECT * FROM batches WHERE batch_id = :batch_id AND session_id = :session_id;

-- name: count_open
SELECT count(*) FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL;

-- name: open_batches
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL ORDER BY enqueue_seq;

-- name: open_batches_from
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL AND enqueue_seq >= :first ORDER BY enqueue_seq;

-- name: claim_candidates
-- The rows a claim could take, by the same words as claiming.Candidate.is_eligible; the rules decide among them.
SELECT * FROM batches
WHERE session_id = :session_id AND ended_at_ms IS NULL AND available_at_ms <= :now
    AND (state = 'pending' OR claim_expires_at_ms <= :now)
ORDER BY enqueue_seq LIMIT :limit;

-- name: turn_candidates
-- The same for the members of a turn that was begun before: it is taken again whole.
SELECT * FROM batches
WHERE session_id = :session_id AND ended_at_ms IS NULL AND turn_id = :turn_id AND available_at_ms <= :now
    AND (state = 'pending' OR claim_expires_at_ms <= :now)
ORDER BY enqueue_seq;

-- name: all_candidates
-- Every open row, to say why there is nothing to claim.
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL ORDER BY enqueue_seq;

-- name: take_batch
UPDATE batches SET state = 'claimed', turn_id = :turn_id, attempts = attempts + 1, fencing = fencing + 1, claim_id = :claim_id,
    claim_owner_id = :owner_id, claim_token = :lease_token, claim_expires_at_ms = :expires
WHERE enqueue_seq = :enqueue_seq AND (state = 'pending' OR claim_expires_at_ms <= :now);

-- name: held_batches
SELECT * FROM batches
WHERE session_id = :session_id AND ended_at_ms IS NULL AND claim_id = :claim_id AND claim_token = :lease_token
ORDER BY enqueue_seq;

-- name: release_batch
UPDATE batches SET state = 'pending', attempts = attempts - :uncharge, claim_id = NULL, claim_owner_id = NULL,
    claim_token = NULL, claim_expires_at_ms = NULL
WHERE enqueue_seq = :enqueue_seq;

-- name: end_batch
UPDATE batches SET state = :state, attempts = attempts - :uncharge, error = :error, ended_at_ms = :now, claim_id = NULL,
    claim_owner_id = NULL, claim_token = NULL, claim_expires_at_ms = NULL
WHERE enqueue_seq = :enqueue_seq;

-- name: mark_cancel_requested
UPDATE batches SET cancel_requested = :reason
WHERE session_id = :session_id AND ended_at_ms IS NULL AND turn_id = :turn_id AND cancel_requested IS NULL;

-- name: is_key_cancelled
SELECT 1 FROM cancelled_keys WHERE session_id = :session_id AND source_key = :source_key;

-- name: cancel_key
INSERT INTO cancelled_keys (session_id, source_key, at_ms) VALUES (:session_id, :source_key, :now) ON CONFLICT DO NOTHING;

-- name: purge_cancelled_keys
DELETE FROM cancelled_keys WHERE at_ms < :before;

-- name: list_all
SELECT * FROM (SELECT * FROM batches WHERE session_id = :session_id ORDER BY enqueue_seq DESC LIMIT :limit) ORDER BY enqueue_seq;

-- name: list_pending
SELECT * FROM (
    SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL AND state = 'pending'
    ORDER BY enqueue_seq DESC LIMIT :limit
) ORDER BY enqueue_seq;

-- name: claimable_sessions
SELECT session_id FROM (
    SELECT session_id, enqueue_seq FROM batches WHERE state = 'pending' AND available_at_ms <= :now
    UNION ALL
    SELECT session_id, enqueue_seq FROM batches WHERE state = 'claimed' AND claim_expires_at_ms <= :now AND available_at_ms <= :now
)
GROUP BY session_id ORDER BY min(enqueue_seq) LIMIT :limit;

-- name: next_due
SELECT min(available_at_ms) FROM batches WHERE state = 'pending' AND available_at_ms > :now;

-- name: purge_ended
DELETE FROM batches WHERE enqueue_seq IN (
    SELECT enqueue_seq FROM batches WHERE ended_at_ms IS NOT NULL AND ended_at_ms < :before ORDER BY ended_at_ms, enqueue_seq LIMIT :limit
);

-- name: get_stamp
SELECT hash, status, revision, turn_index, agent_frame_id FROM turns WHERE session_id = :session_id AND turn_id = :turn_id;

-- name: insert_stamp
INSERT INTO turns (session_id, turn_id, hash, status, revision, turn_index, agent_frame_id)
VALUES (:session_id, :turn_id, :hash, :status, :revision, :turn_index, :agent_frame_id);
