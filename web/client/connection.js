/**
 * The life of one subscription, as a machine without input or output: `step(state, input, now, chance) → [state, effects]`.
 *
 * Stages, in words. `idle`: not asked for, or stopped. `opening`: a transport was asked for and its first frame has not
 * come. `streaming`: it came. `waiting`: until `retryAt`. `ended`: the server's answer is final until somebody says `retry`.
 *
 *     idle ──start──▶ opening ──first frame──▶ streaming
 *                      ▲   │ end, watchdog        │ end, goodbye, no pong
 *         retryAt, wake│   ▼                      ▼
 *                     waiting ◀───── retry ─── verdict ─── end ──▶ ended ──retry──▶ opening
 *                                                 └ forget ──▶ opening, without a cursor
 *
 * Hard decisions, and why they went this way:
 *
 * - **One connection counts.** Every `open` gets a number; what comes from another number is ignored, however late.
 * - **Only progress forgives.** The failure count falls back to zero at `caught_up`, not when a socket opens: a server that
 *   accepts and drops must not be asked twice a second for ever.
 * - **WebSocket first.** A socket that never brought a frame, though nobody refused it, counts against WebSocket; after two
 *   (many more, once one has worked here) server-sent events get a try. If they fail alike, the server is away and not the
 *   road, so the count starts over.
 * - **The cursor is not here.** It lives in the observation, where the fold puts it; the machine only knows whether there is
 *   one. `accept` asks the shell to fold, and only a folded event can be resumed from.
 * - **Silence is suspicious.** After sleep a socket may look open and be dead. A wake-up asks for a `pong` within two seconds, and
 *   so does half a minute without a word; server-sent events, which comment every 15 s, are given up after three.
 * - **A gap is an answer, not an error.** It leaves a mark, `resynchronised`, which fades by itself or with the next input.
 */

export const FIRST_FRAME_MS = 8_000;
export const PONG_MS = 2_000;
export const SOCKET_SILENCE_MS = 30_000;
export const STREAM_SILENCE_MS = 45_000;
export const STREAM_STALE_MS = 20_000;
export const MARK_MS = 30_000;
export const SOCKET_FAILURES = 2;
export const SOCKET_FAILURES_ONCE_WORKED = 8;

/** @typedef {import("./types.js").Problem} Problem */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {'websocket' | 'sse'} Transport */
/** @typedef {'connecting' | 'live' | 'reconnecting' | 'resynchronised' | 'unavailable'} Phase */
/** @typedef {'idle' | 'opening' | 'streaming' | 'waiting' | 'ended'} Stage */
/** @typedef {import("./verdict.js").End & {retryAfterMs?: number, jitterMs?: number}} End */

/**
 * @typedef {object} Connection
 * @property {Stage} stage
 * @property {number} generation number of the latest `open`; inputs of others are ignored
 * @property {ReadonlyArray<Transport>} transports what this place can use, the preferred one first
 * @property {Transport} transport the one in use, or used last
 * @property {boolean} remembers whether there is a state with a cursor to resume from
 * @property {boolean} replacing whether a state was given up and its successor has not come
 * @property {boolean} caughtUp
 * @property {boolean} everLive
 * @property {number} attempt failures since the last progress
 * @property {number} socketFailures WebSockets in a row that brought nothing
 * @property {boolean} socketWorked
 * @property {number} resynchronised how often a state was replaced
 * @property {Problem | null} problem what the server refused last
 * @property {number} heardAt
 * @property {number | null} retryAt
 * @property {number | null} firstFrameBy
 * @property {number | null} pongBy
 * @property {number | null} silentAt
 * @property {number | null} markUntil
 */

/**
 * @typedef {{type: 'start'} | {type: 'stop'} | {type: 'retry'} | {type: 'tick'} | {type: 'wake'} | {type: 'settle'}
 *   | {type: 'frame', generation: number, frame: Frame}
 *   | {type: 'alive', generation: number}
 *   | {type: 'closed', generation: number, end?: End}
 *   | {type: 'garbled', generation: number}} Input
 */

/**
 * @typedef {{type: 'open', generation: number, transport: Transport, fresh: boolean}
 *   | {type: 'close', generation: number}
 *   | {type: 'ping', generation: number}
 *   | {type: 'accept', frame: Frame}
 *   | {type: 'forget'}} Effect
 */


/**
 * @param {{transports: ReadonlyArray<Transport>, remembers?: boolean}} place
 * @returns {Connection}
 */
export function connection({ transports, remembers = false }) {
  if (transports.length === 0) throw new TypeError("a connection needs at least one transport");
  return {
    stage: "idle",
    generation: 0,
    transports,
    transport: transports[0],
    remembers,
    replacing: false,
    caughtUp: false,
    everLive: false,
    attempt: 0,
    socketFailures: 0,
    socketWorked: false,
    resynchronised: 0,
    problem: null,
    heardAt: 0,
    retryAt: null,
    firstFrameBy: null,
    pongBy: null,
    silentAt: null,
    markUntil: null,
  };
}

/**
 * What people are told.
 *
 * @param {Connection} state
 * @returns {Phase}
 */
export function phaseOf(state) {
  if (state.stage === "ended") return "unavailable";
  if (state.stage === "streaming" && state.caughtUp) return state.markUntil === null ? "live" : "resynchronised";
  return state.everLive ? "reconnecting" : "connecting";
}

/**
 * When the machine wants its next `tick`, or null when only the outside can move it.
 *
 * @param {Connection} state
 * @returns {number | null}
 */
export function deadlineOf({ retryAt, firstFrameBy, pongBy, silentAt, markUntil }) {
  const set = [retryAt, firstFrameBy, pongBy, silentAt, markUntil].filter((at) => at !== null);
  return set.length ? Math.min(...set) : null;
}
