/**
 * The list of sessions, as the index tells it: whole at first, then line by line.
 */

/** @typedef {import("./types.js").SessionEntry} SessionEntry */
/** @typedef {import("./types.js").Frame} Frame */

/**
 * The list after one more frame. Lines that did not change are kept by reference.
 *
 * @param {ReadonlyArray<SessionEntry> | null} sessions
 * @param {Frame} frame `index` or `index_changed`
 * @returns {ReadonlyArray<SessionEntry>} newest activity first
 */
export function listed(sessions, frame) {
  if (frame.type === "index") return frame.sessions;
  const { session, removed } = frame;
  const gone = session?.session_id ?? removed;
  const others = (sessions ?? []).filter((entry) => entry.session_id !== gone);
  return session ? [session, ...others].sort((one, other) => other.updated_at_ms - one.updated_at_ms) : others;
}
