/**
 * The life of what carries frames to us: one road after the other, never two at once. Part of every connection machine, whether
 * one session is watched or many; what the frames mean is not known here.
 *
 * Stages, in words. `idle`: not asked for, or stopped. `opening`: a road was asked for and its first frame has not come.
 * `streaming`: it came. `waiting`: until `retryAt`. `ended`: the server's answer is final until somebody says `retry`.
 *
 *     idle ──start──▶ opening ──first frame──▶ streaming
 *                      ▲   │ end, watchdog        │ end, goodbye, no pong
 *         retryAt, wake│   ▼                      ▼
 *                     waiting ◀───── retry ─── verdict ─── end ──▶ ended ──retry──▶ opening
 *
 * Hard decisions, and why they went this way:
 *
 * - **One road counts.** Every `open` gets a number; what comes from another number is ignored, however late.
 * - **Only progress forgives.** The failure count falls back to zero when a session caught up, not when a socket opens: a server
 *   that accepts and drops must not be asked twice a second for ever.
 * - **WebSocket first.** A socket that never brought a frame, though nobody refused it, counts against WebSocket; after two
 *   (many more, once one has worked here) server-sent events get a try. If they fail alike, the server is away and not the
 *   road, so the count starts over.
 * - **Silence is suspicious.** After sleep a socket may look open and be dead. A wake-up asks for a `pong` within two seconds, and
 *   so does half a minute without a word; server-sent events, which comment every 15 s, are given up after three.
 *
 * The functions take and give whole machines: each changes the fields of the link and leaves the others alone.
 */

import { backoff } from "./backoff.js";
import { saidByServer } from "./verdict.js";

export const FIRST_FRAME_MS = 8_000;
export const PONG_MS = 2_000;
export const SOCKET_SILENCE_MS = 30_000;
export const STREAM_SILENCE_MS = 45_000;
export const STREAM_STALE_MS = 20_000;
export const SOCKET_FAILURES = 2;
export const SOCKET_FAILURES_ONCE_WORKED = 8;

/** @typedef {'websocket' | 'sse'} Transport */
/** @typedef {'idle' | 'opening' | 'streaming' | 'waiting' | 'ended'} Stage */
/** @typedef {import("./verdict.js").End & {retryAfterMs?: number, jitterMs?: number}} End */
/** @typedef {'open' | 'lose' | 'ask' | null} Need what is to be done with the road now: a new one, give it up, ask for a sign of life */

/**
 * @typedef {object} Link
 * @property {Stage} stage
 * @property {number} generation number of the latest `open`; inputs of others are ignored
 * @property {ReadonlyArray<Transport>} transports what this place can use, the preferred one first
 * @property {Transport} transport the one in use, or used last
 * @property {boolean} caughtUp whether this road brought progress
 * @property {number} attempt failures since the last progress
 * @property {number} socketFailures WebSockets in a row that brought nothing
 * @property {boolean} socketWorked
 * @property {number} heardAt
 * @property {number | null} retryAt
 * @property {number | null} firstFrameBy
 * @property {number | null} pongBy
 * @property {number | null} silentAt
 */

/**
 * @param {ReadonlyArray<Transport>} transports
 * @returns {Link}
 */
export function link(transports) {
  if (transports.length === 0) throw new TypeError("a connection needs at least one transport");
  return {
    stage: "idle",
    generation: 0,
    transports,
    transport: transports[0],
    caughtUp: false,
    attempt: 0,
    socketFailures: 0,
    socketWorked: false,
    heardAt: 0,
    retryAt: null,
    firstFrameBy: null,
    pongBy: null,
    silentAt: null,
  };
}

/** @param {Link} state */
export function isConnected({ stage }) {
  return stage === "opening" || stage === "streaming";
}

/**
 * @param {Link} state
 * @returns {Array<{type: 'close', generation: number}>}
 */
export function closing(state) {
  return isConnected(state) ? [{ type: "close", generation: state.generation }] : [];
}

/**
 * Without a road, and with no deadline.
 *
 * @template {Link} T
 * @param {T} state
 * @param {Stage} stage
 * @returns {T}
 */
export function quiet(state, stage) {
  return { ...state, stage, caughtUp: false, retryAt: null, firstFrameBy: null, pongBy: null, silentAt: null };
}

/**
 * With the next road asked for.
 *
 * @template {Link} T
 * @param {T} state
 * @param {number} now
 * @returns {T}
 */
export function opening(state, now) {
  const [generation, transport] = [state.generation + 1, nextTransport(state)];
  return { ...quiet(state, "opening"), generation, transport, heardAt: now, firstFrameBy: now + FIRST_FRAME_MS };
}

/**
 * @param {Link} state
 * @returns {Transport}
 */
function nextTransport({ transports, socketFailures, socketWorked }) {
  if (!transports.includes("websocket")) return "sse";
  if (!transports.includes("sse")) return "websocket";
  return socketFailures < (socketWorked ? SOCKET_FAILURES_ONCE_WORKED : SOCKET_FAILURES) ? "websocket" : "sse";
}

/**
 * After a sign of life.
 *
 * @template {Link} T
 * @param {T} state
 * @param {number} now
 * @returns {T}
 */
export function heard(state, now) {
  if (state.stage !== "streaming") return { ...state, heardAt: now };
  const silence = state.transport === "websocket" ? SOCKET_SILENCE_MS : STREAM_SILENCE_MS;
  return { ...state, heardAt: now, pongBy: null, silentAt: now + silence };
}

/**
 * After a frame that may be the first.
 *
 * @template {Link} T
 * @param {T} state
 * @param {number} now
 * @returns {T}
 */
export function streaming(state, now) {
  return heard({ ...state, stage: "streaming", firstFrameBy: null }, now);
}

/**
 * After a session caught up.
 *
 * @template {Link} T
 * @param {T} state
 * @returns {T}
 */
export function progressed(state) {
  const overSocket = state.transport === "websocket";
  return {
    ...state,
    caughtUp: true,
    attempt: 0,
    socketFailures: overSocket ? 0 : state.socketFailures,
    socketWorked: overSocket || state.socketWorked,
  };
}

/**
 * With this end held for or against the kind of road it was.
 *
 * @template {Link} T
 * @param {T} state
 * @param {End} end
 * @returns {T}
 */
export function counted(state, end) {
  const brought = state.stage === "streaming";
  if (state.transport === "sse") return { ...state, socketFailures: brought ? SOCKET_FAILURES - 1 : 0 };
  return brought || saidByServer(end) ? state : { ...state, socketFailures: state.socketFailures + 1 };
}

/**
 * One failure later, until it is time to come back.
 *
 * @template {Link} T
 * @param {T} state
 * @param {End} end
 * @param {number} now
 * @param {number} chance
 * @returns {T}
 */
export function waiting(state, end, now, chance) {
  const attempt = state.attempt + 1;
  return { ...quiet(state, "waiting"), attempt, retryAt: now + backoff(attempt, chance, end) };
}

/**
 * After a sign of life was asked for.
 *
 * @template {Link} T
 * @param {T} state
 * @param {number} now
 * @returns {T}
 */
export function asked(state, now) {
  return { ...state, pongBy: now + PONG_MS, silentAt: null };
}

/**
 * @param {Link} state
 * @param {number} now
 * @returns {Need} when the page was woken up
 */
export function needOnWake(state, now) {
  if (state.stage === "waiting") return "open";
  if (state.stage !== "streaming") return null;
  if (state.transport === "websocket") return state.pongBy === null ? "ask" : null;
  return now - state.heardAt > STREAM_STALE_MS ? "lose" : null;
}

/**
 * @param {Link} state
 * @param {number} now
 * @returns {Need} when time has passed
 */
export function needOnTick({ retryAt, firstFrameBy, pongBy, silentAt, transport }, now) {
  if (isDue(retryAt, now)) return "open";
  if (isDue(firstFrameBy, now) || isDue(pongBy, now)) return "lose";
  if (isDue(silentAt, now)) return transport === "websocket" ? "ask" : "lose";
  return null;
}

/**
 * @param {number | null} at
 * @param {number} now
 */
export function isDue(at, now) {
  return at !== null && at <= now;
}

/**
 * @param {Array<number | null>} times
 * @returns {number | null}
 */
export function earliest(times) {
  const set = times.filter((at) => at !== null);
  return set.length ? Math.min(...set) : null;
}
