/**
 * Where the watching of one session stands, as far as a machine needs to know. The cursor is not here: it lives in the
 * observation, where the fold puts it; a machine only knows whether there is one. Only a folded event can be resumed from.
 *
 * A gap is an answer, not an error. It leaves a mark, `resynchronised`, which fades by itself or with the next input.
 *
 * The functions take and give whole machines: each changes the fields of the track and leaves the others alone.
 */

export const MARK_MS = 30_000;

/** @typedef {import("./types.js").Problem} Problem */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {'connecting' | 'live' | 'reconnecting' | 'resynchronised' | 'unavailable'} Phase */

/**
 * @typedef {object} Track
 * @property {boolean} remembers whether there is a state with a cursor to resume from
 * @property {boolean} replacing whether a state was given up and its successor has not come
 * @property {boolean} caughtUp
 * @property {boolean} everLive
 * @property {number} resynchronised how often a state was replaced
 * @property {Problem | null} problem what the server refused last
 * @property {number | null} markUntil
 */

/**
 * @param {boolean} remembers
 * @returns {Track}
 */
export function track(remembers) {
  return { remembers, replacing: false, caughtUp: false, everLive: false, resynchronised: 0, problem: null, markUntil: null };
}

/**
 * After a frame that says where the session stands, with the state of that place unless the known one is good.
 *
 * @template {Track} T
 * @param {T} state
 * @param {Frame} frame
 * @param {number} now
 * @returns {T}
 */
export function placed(state, frame, now) {
  if (frame.type === "resumed") return state;
  const next = { ...state, remembers: true, replacing: false };
  if (frame.type !== "gap" && !state.replacing) return next;
  return { ...next, resynchronised: state.resynchronised + 1, markUntil: now + MARK_MS };
}

/**
 * @template {Track} T
 * @param {T} state
 * @param {number} now
 * @returns {T}
 */
export function caughtUp(state, now) {
  const markUntil = state.markUntil === null ? null : now + MARK_MS;
  return { ...state, caughtUp: true, everLive: true, problem: null, markUntil };
}

/**
 * Without the state, which could not be gone on from.
 *
 * @template {Track} T
 * @param {T} state
 * @returns {T}
 */
export function givenUp(state) {
  return { ...state, remembers: false, replacing: state.remembers || state.replacing };
}

/**
 * What people are told of a session that was not refused.
 *
 * @param {Track} state
 * @param {boolean} isStreaming
 * @returns {Phase}
 */
export function phaseOfTrack({ caughtUp, everLive, markUntil }, isStreaming) {
  if (isStreaming && caughtUp) return markUntil === null ? "live" : "resynchronised";
  return everLive ? "reconnecting" : "connecting";
}
