-- name: bump_incarnation
-- Another life of the database begins; its number.
UPDATE meta SET value = value + 1 WHERE name = 'incarnation' RETURNING value;

-- name: void_claims
-- No other owner lives (the file lock proves it): what former owners held is pending again.
UPDATE batches SET state = 'pending', claim_id = NULL, claim_owner_id = NULL, claim_token = NULL, claim_size = NULL,
    claim_generation = NULL, claim_expires_at_ms = NULL
WHERE ended_at_ms IS NULL AND state = 'claimed';

-- name: void_leases
-- The same for the lanes. The generation stays.
UPDATE sessions SET lease_owner_id = NULL, lease_token = NULL, lease_expires_at_ms = 0 WHERE lease_owner_id IS NOT NULL;

-- name: last_touch
SELECT max(touched) FROM sessions;

-- name: is_deleted
SELECT 1 FROM deleted_sessions WHERE session_id = :session_id;

-- name: session_exists
SELECT 1 FROM sessions WHERE session_id = :session_id;

-- name: insert_session
INSERT INTO sessions (session_id, revision, turn_index, message_count, agent_frame_id, policy, metadata, usage, tools, title,
    created_at_ms, updated_at_ms, touched)
VALUES (:session_id, 0, 0, 0, :agent_frame_id, :policy, :metadata, :usage, :tools, '', :now, :now, :touched);

-- name: get_session
SELECT session_id, revision, turn_index, message_count, frame_start, agent_frame_id, policy, metadata, usage, tools, title, created_at_ms,
    updated_at_ms, lease_generation, lease_owner_id
FROM sessions WHERE session_id = :session_id;

-- name: get_lane
SELECT lease_generation, lease_owner_id, lease_token, lease_expires_at_ms FROM sessions WHERE session_id = :session_id;

-- name: set_lane
UPDATE sessions SET lease_generation = :generation, lease_owner_id = :owner_id, lease_token = :lease_token,
    lease_expires_at_ms = :expires
WHERE session_id = :session_id;

-- name: release_lane
-- Whoever does not rule any more changes nothing.
UPDATE sessions SET lease_owner_id = NULL, lease_token = NULL, lease_expires_at_ms = 0
WHERE session_id = :session_id AND lease_generation = :generation AND lease_token = :lease_token;

-- name: touch_session
-- Work came, to be open or (cancelled before it came) not. No row: there is no such session, or its queue is full.
UPDATE sessions SET updated_at_ms = :now, touched = :touched, open_batches = open_batches + :opened
WHERE session_id = :session_id AND open_batches + :opened <= :most;

-- name: close_batches
-- So many batches ended otherwise than by a commit.
UPDATE sessions SET open_batches = open_batches - :closed WHERE session_id = :session_id;

-- name: get_head
-- All that a commit has to know before it writes: head, lane, the stamp of this turn if there is one, and whether it has
-- a journal or asked anything.
SELECT revision, turn_index, message_count, frame_start, agent_frame_id, usage, lease_generation, lease_token,
    (SELECT hash FROM turns WHERE turns.session_id = :session_id AND turn_id = :turn_id) AS stamp,
    EXISTS (SELECT 1 FROM journal WHERE journal.session_id = :session_id AND turn_id = :turn_id) AS has_notes,
    EXISTS (SELECT 1 FROM requests WHERE requests.session_id = :session_id AND turn_id = :turn_id) AS has_asked
FROM sessions WHERE session_id = :session_id;

-- name: list_sessions
-- One page of the list, newest activity first, with what the status is derived from. Filtering by status happens on these counts.
SELECT session_id, revision, updated_at_ms, metadata, title, touched, asked, pending, claimed FROM (
    SELECT s.session_id, s.revision, s.updated_at_ms, s.metadata, s.title, s.touched,
        EXISTS (SELECT 1 FROM requests r WHERE r.session_id = s.session_id AND r.answer IS NULL) AS asked,
        (SELECT count(*) FROM batches b WHERE b.session_id = s.session_id AND b.ended_at_ms IS NULL AND b.state = 'pending') AS pending,
        (SELECT count(*) FROM batches b WHERE b.session_id = s.session_id AND b.ended_at_ms IS NULL AND b.state = 'claimed') AS claimed
    FROM sessions s WHERE s.touched < :after
)
WHERE :status IS NULL
    OR (:status = 'waiting' AND asked)
    OR (:status = 'running' AND NOT asked AND claimed > 0)
    OR (:status = 'queued' AND NOT asked AND claimed = 0 AND pending > 0)
    OR (:status = 'idle' AND NOT asked AND claimed = 0 AND pending = 0)
ORDER BY touched DESC LIMIT :limit;

-- name: session_entries
-- The lines of the list for these, given as a JSON array of ids.
SELECT s.session_id, s.revision, s.updated_at_ms, s.metadata, s.title,
    EXISTS (SELECT 1 FROM requests r WHERE r.session_id = s.session_id AND r.answer IS NULL) AS asked,
    (SELECT count(*) FROM batches b WHERE b.session_id = s.session_id AND b.ended_at_ms IS NULL AND b.state = 'pending') AS pending,
    (SELECT count(*) FROM batches b WHERE b.session_id = s.session_id AND b.ended_at_ms IS NULL AND b.state = 'claimed') AS claimed
FROM json_each(:session_ids) AS asked JOIN sessions s ON s.session_id = asked.value;

-- name: delete_batches
DELETE FROM batches WHERE session_id = :session_id;

-- name: delete_keys
DELETE FROM source_keys WHERE session_id = :session_id;

-- name: delete_journals
DELETE FROM journal WHERE session_id = :session_id;

-- name: delete_requests
DELETE FROM requests WHERE session_id = :session_id;

-- name: delete_frames
DELETE FROM frames WHERE session_id = :session_id;

-- name: delete_session
-- Messages and stamps go with it.
DELETE FROM sessions WHERE session_id = :session_id;

-- name: fence_session
INSERT INTO deleted_sessions (session_id, deleted_at_ms) VALUES (:session_id, :now);

-- name: update_head
UPDATE sessions SET revision = :revision, turn_index = :turn_index, message_count = :message_count, usage = :usage,
    frame_start = :frame_start, agent_frame_id = :agent_frame_id,
    tools = coalesce(:tools, tools), title = CASE WHEN :reset THEN '' WHEN title = '' THEN :title ELSE title END,
    updated_at_ms = :now, touched = :touched, open_batches = open_batches - :closed,
    lease_owner_id = CASE WHEN :release THEN NULL ELSE lease_owner_id END,
    lease_token = CASE WHEN :release THEN NULL ELSE lease_token END,
    lease_expires_at_ms = CASE WHEN :release THEN 0 ELSE lease_expires_at_ms END
WHERE session_id = :session_id;

-- name: insert_message
INSERT INTO messages (session_id, seq, message_id, body) VALUES (:session_id, :seq, :message_id, :body);

-- name: insert_frame
INSERT INTO frames (session_id, frame_id, reason, created_at_ms) VALUES (:session_id, :frame_id, :reason, :now);

-- name: list_frames
SELECT frame_id, reason, created_at_ms FROM frames WHERE session_id = :session_id ORDER BY seq;

-- name: delete_messages
DELETE FROM messages WHERE session_id = :session_id;

-- name: newest_messages
SELECT seq, body FROM messages WHERE session_id = :session_id AND seq < :before ORDER BY seq DESC LIMIT :limit;

-- name: message_seq
SELECT seq FROM messages WHERE session_id = :session_id AND message_id = :message_id;

-- name: insert_batch
INSERT INTO batches (batch_id, session_id, source_key, turn_id, state, delivery_policy, slot_policy, merge_key, available_at_ms,
    enqueued_at_ms, items, ended_at_ms)
VALUES (:batch_id, :session_id, :source_key, :turn_id, :state, :delivery_policy, :slot_policy, :merge_key, :available_at_ms, :now,
    :items, :ended_at_ms);

-- name: get_key
SELECT content_hash, batch_id, ended FROM source_keys WHERE session_id = :session_id AND source_key = :source_key;

-- name: put_key
INSERT INTO source_keys (session_id, source_key, used_at_ms, content_hash, batch_id)
VALUES (:session_id, :source_key, :now, :content_hash, :batch_id)
ON CONFLICT DO UPDATE SET used_at_ms = excluded.used_at_ms, content_hash = excluded.content_hash, batch_id = excluded.batch_id;

-- name: use_key
UPDATE source_keys SET used_at_ms = max(used_at_ms, :now) WHERE session_id = :session_id AND source_key = :source_key;

-- name: batch_by_id
SELECT * FROM batches WHERE batch_id = :batch_id AND session_id = :session_id;

-- name: open_batches
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL ORDER BY enqueue_seq;

-- name: open_batches_from
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL AND enqueue_seq >= :first ORDER BY enqueue_seq;

-- name: claim_candidates
-- The rows a claim could take, by the same words as claiming.Candidate.is_eligible; the rules decide among them. A null
-- generation, on either side, compares to nothing.
SELECT * FROM batches
WHERE session_id = :session_id AND ended_at_ms IS NULL AND (available_at_ms <= :now OR turn_id IS NOT NULL)
    AND (state = 'pending' OR claim_expires_at_ms <= :now OR claim_generation <> :generation)
ORDER BY enqueue_seq LIMIT :limit;

-- name: turn_candidates
-- The same for the members of a turn that was begun before: it is taken again whole.
SELECT * FROM batches
WHERE session_id = :session_id AND ended_at_ms IS NULL AND turn_id = :turn_id AND (state = 'pending' OR claim_expires_at_ms <= :now OR claim_generation <> :generation)
ORDER BY enqueue_seq;

-- name: soonest_batch
-- Of the open ones. With `a_held_batch`, enough to say why there is nothing to claim.
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL ORDER BY available_at_ms, enqueue_seq LIMIT 1;

-- name: a_held_batch
SELECT * FROM batches
WHERE session_id = :session_id AND ended_at_ms IS NULL AND state = 'claimed' AND claim_expires_at_ms > :now
    AND (claim_generation <> :generation) IS NOT TRUE
ORDER BY enqueue_seq LIMIT 1;

-- name: take_batch
UPDATE batches SET state = 'claimed', turn_id = :turn_id, attempts = attempts + 1, fencing = fencing + 1, claim_id = :claim_id,
    claim_owner_id = :owner_id, claim_token = :lease_token, claim_size = :size, claim_generation = :generation,
    claim_expires_at_ms = :expires
WHERE enqueue_seq = :enqueue_seq;

-- name: held_batch
SELECT * FROM batches WHERE batch_id = :batch_id AND session_id = :session_id AND ended_at_ms IS NULL AND claim_id = :claim_id AND claim_token = :lease_token;

-- name: renew_batch
UPDATE batches SET claim_expires_at_ms = :expires
WHERE batch_id = :batch_id AND session_id = :session_id AND ended_at_ms IS NULL AND claim_id = :claim_id AND claim_token = :lease_token;

-- name: release_batch
UPDATE batches SET state = 'pending', attempts = max(attempts - :uncharge, 0), claim_id = NULL, claim_owner_id = NULL,
    claim_token = NULL, claim_size = NULL, claim_generation = NULL, claim_expires_at_ms = NULL
WHERE enqueue_seq = :enqueue_seq;

-- name: forget_turn
-- What the turn had taken and does not complete is work of no turn again.
UPDATE batches SET state = 'pending', turn_id = NULL, attempts = max(attempts - (state = 'claimed'), 0), claim_id = NULL,
    claim_owner_id = NULL, claim_token = NULL, claim_size = NULL, claim_generation = NULL, claim_expires_at_ms = NULL
WHERE session_id = :session_id AND ended_at_ms IS NULL AND turn_id = :turn_id;

-- name: complete_batch
-- Only as part of a whole claim: who proves fewer or more rows than it has completes none.
UPDATE batches SET state = :state, attempts = max(attempts, 1) - :uncharge, error = :error, ended_at_ms = :now, claim_id = NULL,
    claim_owner_id = NULL, claim_token = NULL, claim_size = NULL, claim_generation = NULL, claim_expires_at_ms = NULL
WHERE batch_id = :batch_id AND session_id = :session_id AND ended_at_ms IS NULL AND claim_id = :claim_id AND claim_token = :lease_token
    AND claim_size = :size;

-- name: cancel_batch
UPDATE batches SET state = 'cancelled', ended_at_ms = :now WHERE enqueue_seq = :enqueue_seq;

-- name: claimed_batch
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL AND state = 'claimed' ORDER BY enqueue_seq LIMIT 1;

-- name: batch_of_turn
SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL AND turn_id = :turn_id ORDER BY enqueue_seq LIMIT 1;

-- name: mark_cancel_requested
UPDATE batches SET cancel_requested = :reason
WHERE session_id = :session_id AND ended_at_ms IS NULL AND turn_id = :turn_id AND cancel_requested IS NULL;

-- name: list_all
SELECT * FROM (SELECT * FROM batches WHERE session_id = :session_id ORDER BY enqueue_seq DESC LIMIT :limit) ORDER BY enqueue_seq;

-- name: list_pending
SELECT * FROM (
    SELECT * FROM batches WHERE session_id = :session_id AND ended_at_ms IS NULL AND state = 'pending'
    ORDER BY enqueue_seq DESC LIMIT :limit
) ORDER BY enqueue_seq;

-- name: peek_claimable
-- What was claimed under a lease that ended is free as well.
SELECT EXISTS (
    SELECT 1 FROM batches JOIN sessions USING (session_id)
    WHERE session_id = :session_id AND ended_at_ms IS NULL AND (available_at_ms <= :now OR turn_id IS NOT NULL)
        AND (state = 'pending' OR claim_expires_at_ms <= :now OR claim_generation <> lease_generation
            OR (claim_generation IS NOT NULL AND lease_expires_at_ms <= :now))
);

-- name: claimable_sessions
-- From session to session by the index of open work, not from row to row: a session costs the same however much it holds.
WITH RECURSIVE busy (id) AS (
    SELECT min(session_id) FROM batches WHERE ended_at_ms IS NULL AND session_id > :after
    UNION ALL
    SELECT (SELECT min(session_id) FROM batches WHERE ended_at_ms IS NULL AND session_id > busy.id) FROM busy WHERE busy.id IS NOT NULL
)
SELECT id FROM busy WHERE id IS NOT NULL AND EXISTS (
    SELECT 1 FROM batches JOIN sessions USING (session_id)
    WHERE session_id = busy.id AND ended_at_ms IS NULL AND (available_at_ms <= :now OR turn_id IS NOT NULL)
        AND (state = 'pending' OR claim_expires_at_ms <= :now OR claim_generation <> lease_generation
            OR (claim_generation IS NOT NULL AND lease_expires_at_ms <= :now))
) LIMIT :limit;

-- name: next_due
SELECT min(available_at_ms) FROM batches
WHERE ended_at_ms IS NULL AND available_at_ms > enqueued_at_ms AND available_at_ms > :now AND state = 'pending'
    AND turn_id IS NULL;

-- name: ended_batches
SELECT * FROM batches WHERE ended_at_ms IS NOT NULL AND ended_at_ms < :before ORDER BY ended_at_ms, enqueue_seq LIMIT :limit;

-- name: end_key
-- The batch goes, its key stays.
UPDATE source_keys SET ended = :ended WHERE session_id = :session_id AND source_key = :source_key;

-- name: delete_batch
DELETE FROM batches WHERE enqueue_seq = :enqueue_seq;

-- name: purge_keys
DELETE FROM source_keys WHERE (session_id, source_key) IN (
    SELECT session_id, source_key FROM source_keys
    WHERE (batch_id IS NULL OR ended IS NOT NULL) AND used_at_ms < :before ORDER BY used_at_ms, session_id, source_key LIMIT :limit
);

-- name: get_stamp
SELECT hash, status, revision, turn_index, agent_frame_id FROM turns WHERE session_id = :session_id AND turn_id = :turn_id;

-- name: insert_stamp
INSERT INTO turns (session_id, turn_id, hash, status, revision, turn_index, agent_frame_id, usage)
VALUES (:session_id, :turn_id, :hash, :status, :revision, :turn_index, :agent_frame_id, :usage);

-- name: turn_usage
SELECT usage FROM turns WHERE session_id = :session_id AND turn_id = :turn_id;

-- name: set_usage
UPDATE sessions SET usage = :usage WHERE session_id = :session_id;

-- name: get_note
SELECT value FROM journal WHERE session_id = :session_id AND turn_id = :turn_id AND key = :key;

-- name: get_notes
SELECT key, value FROM journal WHERE session_id = :session_id AND turn_id = :turn_id;

-- name: put_note
INSERT INTO journal (session_id, turn_id, key, value) VALUES (:session_id, :turn_id, :key, :value)
ON CONFLICT DO UPDATE SET value = excluded.value;

-- name: delete_journal
DELETE FROM journal WHERE session_id = :session_id AND turn_id = :turn_id;

-- name: request_by_key
SELECT * FROM requests WHERE session_id = :session_id AND turn_id = :turn_id AND key = :key;

-- name: request_by_id
SELECT * FROM requests WHERE request_id = :request_id AND session_id = :session_id;

-- name: open_requests
SELECT * FROM requests WHERE session_id = :session_id AND answer IS NULL ORDER BY seq;

-- name: answers_to
-- Given as a JSON array of ids.
SELECT request_id, answer FROM json_each(:request_ids) AS asked JOIN requests ON request_id = asked.value
WHERE answer IS NOT NULL;

-- name: insert_request
INSERT INTO requests (request_id, session_id, turn_id, key, kind, prompt, options, at_ms)
VALUES (:request_id, :session_id, :turn_id, :key, :kind, :prompt, :options, :at_ms);

-- name: answer_request
UPDATE requests SET answer = :answer WHERE request_id = :request_id;

-- name: forgive_attempts
UPDATE batches SET attempts = 0 WHERE session_id = :session_id AND ended_at_ms IS NULL AND turn_id = :turn_id;

-- name: withdraw_requests
DELETE FROM requests WHERE session_id = :session_id AND turn_id = :turn_id AND answer IS NULL;

-- name: end_requests
UPDATE requests SET ended_at_ms = :now WHERE session_id = :session_id AND turn_id = :turn_id;

-- name: purge_requests
DELETE FROM requests WHERE seq IN (
    SELECT seq FROM requests WHERE ended_at_ms IS NOT NULL AND ended_at_ms < :before ORDER BY ended_at_ms, request_id LIMIT :limit
);

-- name: lapse_process_leases
-- No other owner lives (the file lock proves it), so nobody renews these any more. Who had them stays: an owner-bound
-- process is abandoned on that evidence.
UPDATE processes SET lease_expires_at_ms = 0 WHERE status = 'running' AND disposition <> 'externally_owned' AND lease_owner_id IS NOT NULL;

-- name: insert_process
INSERT INTO processes (process_id, registration_hash, kind, disposition, host_profile_id, registration, event_types,
    created_at_ms, updated_at_ms)
VALUES (:process_id, :registration_hash, :kind, :disposition, :host_profile_id, :registration, :event_types, :now, :now);

-- name: get_process
SELECT * FROM processes WHERE process_id = :process_id;

-- name: update_process
-- All that changes: what the record says, and who has the lease.
UPDATE processes SET updated_at_ms = :updated, status = :status, output = :output, external_ref = :external_ref,
    cancel_requested = :cancel_requested, progress = :progress, last_sequence = :last_sequence, attempts = :attempts,
    started_at_ms = :started, fencing = :fencing, lease_owner_id = :owner_id, lease_token = :lease_token,
    lease_claimed_at_ms = :claimed, lease_expires_at_ms = :expires
WHERE position = :position;

-- name: list_processes
SELECT * FROM processes WHERE position < :after ORDER BY position DESC LIMIT :limit;

-- name: list_processes_by_status
SELECT * FROM processes WHERE status = :status AND position < :after AND (:kind IS NULL OR kind = :kind)
ORDER BY position DESC LIMIT :limit;

-- name: list_processes_by_kind
SELECT * FROM processes WHERE kind = :kind AND position < :after ORDER BY position DESC LIMIT :limit;

-- name: runnable_processes
-- By the index in the order of the page, or all that run would be sorted for each.
SELECT * FROM processes INDEXED BY processes_runnable
WHERE status = 'running' AND disposition <> 'externally_owned' AND process_id > :after
    AND (lease_owner_id IS NULL OR lease_expires_at_ms <= :now) AND (:profile IS NULL OR host_profile_id = :profile)
ORDER BY process_id LIMIT :limit;

-- name: insert_process_event
INSERT INTO process_events (process_id, sequence, event_type, replay_key, body)
VALUES (:process_id, :sequence, :event_type, :replay_key, :body);

-- name: keep_process_value
INSERT INTO process_values (process_id, attachment_id, data) VALUES (:process_id, :attachment_id, :data)
ON CONFLICT DO NOTHING;

-- name: get_process_value
SELECT data FROM process_values WHERE process_id = :process_id AND attachment_id = :attachment_id;

-- name: process_event_by_key
SELECT body FROM process_events WHERE process_id = :process_id AND replay_key = :replay_key;

-- name: process_events
SELECT body FROM process_events WHERE process_id = :process_id AND sequence > :after ORDER BY sequence LIMIT :limit;

-- name: process_events_of_type
SELECT body FROM process_events WHERE process_id = :process_id AND event_type = :event_type AND sequence > :after
ORDER BY sequence LIMIT :limit;

-- name: put_process_grant
INSERT INTO process_grants (session_id, agent_frame_id, process_id, descriptor)
VALUES (:session_id, :agent_frame_id, :process_id, :descriptor) ON CONFLICT DO UPDATE SET descriptor = excluded.descriptor;

-- name: get_process_grant
SELECT descriptor FROM process_grants
WHERE session_id = :session_id AND agent_frame_id = :agent_frame_id AND process_id = :process_id;

-- name: delete_process_grant
DELETE FROM process_grants WHERE session_id = :session_id AND agent_frame_id = :agent_frame_id AND process_id = :process_id;

-- name: grants_of_process
SELECT session_id, agent_frame_id, descriptor FROM process_grants WHERE process_id = :process_id
ORDER BY session_id, agent_frame_id;

-- name: grants_of_scope
SELECT processes.*, descriptor FROM process_grants JOIN processes USING (process_id)
WHERE session_id = :session_id AND agent_frame_id = :agent_frame_id AND (NOT :live OR status = 'running')
ORDER BY process_grants.process_id;

-- name: granted_to_scope
SELECT agent_frame_id, process_id FROM process_grants WHERE session_id = :session_id AND agent_frame_id = :agent_frame_id;

-- name: granted_to_session
SELECT agent_frame_id, process_id FROM process_grants WHERE session_id = :session_id;

-- name: put_process_wake
-- Asked for again it stays as it was.
INSERT INTO process_wakes (process_id, wake_id, wake) VALUES (:process_id, :wake_id, :wake) ON CONFLICT DO NOTHING;

-- name: pending_process_wakes
SELECT position, wake FROM process_wakes INDEXED BY process_wakes_pending
WHERE state = 'pending' AND position > :after ORDER BY position LIMIT :limit;

-- name: get_pending_wake
SELECT wake FROM process_wakes WHERE position = :position AND state = 'pending';

-- name: settle_process_wake
UPDATE process_wakes SET state = :state, settled_at_ms = :now WHERE position = :position;

-- name: task_by_name
SELECT record FROM tasks WHERE session_id = :session_id AND task_id = :task_id;

-- name: task_by_generation
SELECT record FROM tasks WHERE generation = :generation;

-- name: insert_task
-- The generation is told by the insert, so the record without it is put right behind.
INSERT INTO tasks (session_id, task_id, place, flavour, kind, incarnation, record)
SELECT :session_id, :task_id, COALESCE(MAX(place), 0) + 1, :flavour, :kind, :incarnation, '{}'
FROM tasks WHERE session_id = :session_id;

-- name: update_task
UPDATE tasks SET completed_at_ms = :completed, record = :record WHERE generation = :generation;

-- name: move_task
UPDATE tasks SET session_id = :session_id, record = :record,
    place = (SELECT COALESCE(MAX(place), 0) + 1 FROM tasks WHERE session_id = :session_id)
WHERE generation = :generation;

-- name: delete_task
DELETE FROM tasks WHERE generation = :generation;

-- name: delete_tasks
DELETE FROM tasks WHERE session_id = :session_id;

-- name: count_live_tasks
SELECT count(*) FROM tasks INDEXED BY tasks_live WHERE session_id = :session_id AND completed_at_ms IS NULL;

-- name: list_tasks
SELECT record FROM tasks WHERE session_id = :session_id ORDER BY place DESC LIMIT :limit;

-- name: list_live_tasks
SELECT record FROM tasks INDEXED BY tasks_live
WHERE session_id = :session_id AND completed_at_ms IS NULL ORDER BY place DESC LIMIT :limit;

-- name: live_tasks_of_kind
SELECT record FROM tasks INDEXED BY tasks_live_by_kind
WHERE kind = :kind AND completed_at_ms IS NULL ORDER BY generation;

-- name: tasks_of_former_lives
SELECT record FROM tasks INDEXED BY tasks_managed
WHERE completed_at_ms IS NULL AND flavour = 'managed' AND incarnation <> :incarnation ORDER BY generation;

-- name: purge_tasks
DELETE FROM tasks WHERE generation IN (
    SELECT generation FROM tasks INDEXED BY tasks_ended
    WHERE completed_at_ms < :before ORDER BY completed_at_ms LIMIT :limit
);

-- name: put_monitor
INSERT INTO monitors (session_id, monitor_id, record) VALUES (:session_id, :monitor_id, :record)
ON CONFLICT DO UPDATE SET record = excluded.record;

-- name: monitored_sessions
SELECT DISTINCT session_id FROM monitors ORDER BY session_id;

-- name: list_monitors
SELECT record FROM monitors WHERE session_id = :session_id ORDER BY monitor_id;

-- name: delete_monitors
DELETE FROM monitors WHERE session_id = :session_id;
