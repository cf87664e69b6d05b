/**
 * The shapes of the wire, as the server sends them. Types only: nothing here runs.
 *
 * Everything is read-only by agreement: an observation is never changed in place, so whoever holds one may keep it, compare it
 * by reference and share its parts. Servers may add fields; what is named here does not change meaning.
 *
 * @typedef {'waiting' | 'running' | 'queued' | 'idle'} Status
 * @typedef {'text' | 'reasoning'} Channel
 *
 * @typedef {object} Failure
 * @property {string} code
 * @property {string} message
 *
 * @typedef {object} Message
 * @property {string} message_id
 * @property {string} role
 * @property {string} content
 * @property {Array<Record<string, any>>} [parts]
 * @property {Record<string, any>} [origin]
 * @property {string} [turn_id]
 * @property {string} [status]
 * @property {Failure} [error]
 * @property {string} [agent_frame_id]  absent in the initial frame
 * @property {number} at_ms
 *
 * @typedef {object} InputMessage
 * @property {string} role
 * @property {string} content
 * @property {Array<Record<string, any>>} [parts]
 * @property {string} [source_key]
 *
 * @typedef {object} Segment
 * @property {string} correlation_id
 * @property {Channel} channel
 * @property {string} text
 *
 * @typedef {object} ToolCall
 * @property {string} call_id
 * @property {string} correlation_id
 * @property {string} name
 * @property {any} args
 * @property {'running' | 'completed' | 'failed'} state
 * @property {any} [output]
 *
 * @typedef {object} Live
 * @property {string} turn_id
 * @property {number} attempt
 * @property {number} started_at_ms
 * @property {string} boundary
 * @property {ReadonlyArray<InputMessage>} input
 * @property {ReadonlyArray<Segment>} segments
 * @property {string} text
 * @property {string} reasoning
 * @property {ReadonlyArray<ToolCall>} tool_calls
 * @property {number} protocol_iteration
 * @property {string} [error]
 *
 * @typedef {object} ReadView
 * @property {ReadonlyArray<Message>} messages
 * @property {string} agent_frame_id
 * @property {number} turn_index
 * @property {boolean} truncated
 *
 * @typedef {Record<string, number>} UsageFigures
 *
 * @typedef {object} Usage
 * @property {UsageFigures} totals
 * @property {Record<string, UsageFigures>} by_model
 * @property {Record<string, Record<string, UsageFigures>>} [by_source]
 *
 * @typedef {object} BatchSummary
 * @property {string} batch_id
 * @property {number} enqueue_seq
 * @property {string} state
 * @property {string} kind
 * @property {string} preview
 * @property {string} delivery_policy
 * @property {string} slot_policy
 * @property {number} available_at_ms
 * @property {string} [source_key]
 * @property {string} [turn_id]
 *
 * @typedef {object} Request
 * @property {string} request_id
 * @property {string} turn_id
 * @property {string} kind
 * @property {string} prompt
 * @property {ReadonlyArray<any>} [options]
 * @property {number} at_ms
 *
 * @typedef {Record<string, any>} Summary A process or a background task, as lists show it.
 *
 * @typedef {object} ProcessEvent
 * @property {number} sequence
 * @property {string} event_type
 * @property {any} payload
 * @property {number} occurred_at_ms
 *
 * @typedef {object} Observation
 * @property {string} session_id
 * @property {number} revision
 * @property {string} cursor
 * @property {Status} status
 * @property {Record<string, any>} policy
 * @property {Record<string, any>} metadata
 * @property {ReadView} read_view
 * @property {Live | null} live
 * @property {Usage} usage
 * @property {Record<string, any>} tools
 * @property {ReadonlyArray<BatchSummary>} queue
 * @property {ReadonlyArray<Request>} requests
 * @property {ReadonlyArray<Summary>} processes
 * @property {ReadonlyArray<Summary>} tasks
 *
 * @typedef {object} WireEvent
 * @property {'event'} [type]
 * @property {string} session_id
 * @property {string} cursor
 * @property {number} revision
 * @property {string} [turn_id]
 * @property {number} at_ms
 * @property {string} kind
 * @property {any} data
 *
 * @typedef {object} Activity
 * @property {string} id
 * @property {string} correlation_id
 * @property {{type: string, [field: string]: any}} event
 *
 * @typedef {object} Problem An RFC 9457 problem body.
 * @property {string} [type]
 * @property {string} [title]
 * @property {number} [status]
 * @property {string} [detail]
 * @property {string} [code]
 * @property {boolean} [retryable]
 *
 * @typedef {{type: string, [field: string]: any}} Frame One frame of a stream; `type` says which.
 *
 * @typedef {object} SessionEntry
 * @property {string} session_id
 * @property {Status} status
 * @property {number} revision
 * @property {number} updated_at_ms
 * @property {Record<string, any>} metadata
 * @property {number} pending
 * @property {string} [title]
 *
 * @typedef {object} Snapshot What a view of a session shows; a new object whenever anything in it changed.
 * @property {Observation | null} observation
 * @property {import("./track.js").Phase} phase
 * @property {number} resynchronised how often the state had to be replaced
 * @property {Problem | null} problem why the phase is `unavailable`
 *
 * @typedef {object} ListSnapshot What a view of the list of sessions shows; a new object whenever anything in it changed.
 * @property {ReadonlyArray<SessionEntry> | null} sessions newest activity first; null until it came
 * @property {import("./track.js").Phase} phase
 * @property {Problem | null} problem why the phase is `unavailable`
 *
 * @typedef {object} Batch
 * @property {string} batch_id
 * @property {number} enqueue_seq
 * @property {string} state
 * @property {number} [attempts]
 * @property {string} [turn_id]
 * @property {string} [source_key]
 * @property {Failure} [error]
 * @property {string} [applied_through]
 */

export {};
