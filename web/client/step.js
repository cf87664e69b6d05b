/**
 * The transitions of a connection; the essay and the shapes are in `connection.js`. One function per thing that can happen,
 * each from a state to the next state and what the shell must do now, in order.
 */

import { backoff } from "./backoff.js";
import {
  FIRST_FRAME_MS,
  MARK_MS,
  PONG_MS,
  SOCKET_FAILURES,
  SOCKET_FAILURES_ONCE_WORKED,
  SOCKET_SILENCE_MS,
  STREAM_SILENCE_MS,
  STREAM_STALE_MS,
} from "./connection.js";
import { saidByServer, verdictOn } from "./verdict.js";

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./connection.js").Stage} Stage */
/** @typedef {import("./connection.js").Transport} Transport */
/** @typedef {import("./connection.js").Input} Input */
/** @typedef {import("./connection.js").Effect} Effect */
/** @typedef {import("./connection.js").End} End */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Problem} Problem */
/** @typedef {[Connection, Effect[]]} Step */
/** @typedef {(state: Connection, now: number, chance: number) => Step} Move */

/**
 * @param {Connection} state
 * @param {Input} input
 * @param {number} now milliseconds of any clock that only moves forward
 * @param {number} chance a number in [0, 1), used when a wait is drawn
 * @returns {Step}
 */
export function step(state, input, now, chance) {
  switch (input.type) {
    case "start":
      return state.stage === "idle" ? opened(state, now) : [state, []];
    case "retry":
      return state.stage === "ended" ? opened({ ...state, attempt: 0, problem: null }, now) : [state, []];
    case "stop":
      return [quiet(state, "idle"), closing(state)];
    case "settle":
      return [{ ...state, markUntil: null }, []];
    case "wake":
      return woken(state, now, chance);
    case "tick":
      return ticked(state, now, chance);
  }
  if (input.generation !== state.generation || !isConnected(state)) return [state, []];
  switch (input.type) {
    case "frame":
      return framed(state, input.frame, now, chance);
    case "alive":
      return [heard(state, now), []];
    case "closed":
      return over(state, input.end ?? {}, now, chance);
    case "garbled":
      return garbled(state, now, chance);
  }
}

/** @param {Connection} state */
function isConnected({ stage }) {
  return stage === "opening" || stage === "streaming";
}

/**
 * @param {Connection} state
 * @returns {Effect[]}
 */
function closing(state) {
  return isConnected(state) ? [{ type: "close", generation: state.generation }] : [];
}

/**
 * Without a connection, and with no deadline but the mark's.
 *
 * @param {Connection} state
 * @param {Stage} stage
 * @returns {Connection}
 */
function quiet(state, stage) {
  return { ...state, stage, caughtUp: false, retryAt: null, firstFrameBy: null, pongBy: null, silentAt: null };
}

/**
 * Asks for the next connection.
 *
 * @param {Connection} state
 * @param {number} now
 * @returns {Step}
 */
function opened(state, now) {
  const generation = state.generation + 1;
  const transport = nextTransport(state);
  return [
    { ...quiet(state, "opening"), generation, transport, heardAt: now, firstFrameBy: now + FIRST_FRAME_MS },
    [{ type: "open", generation, transport, fresh: !state.remembers }],
  ];
}

/**
 * @param {Connection} state
 * @returns {Transport}
 */
function nextTransport({ transports, socketFailures, socketWorked }) {
  if (!transports.includes("websocket")) return "sse";
  if (!transports.includes("sse")) return "websocket";
  return socketFailures < (socketWorked ? SOCKET_FAILURES_ONCE_WORKED : SOCKET_FAILURES) ? "websocket" : "sse";
}

/**
 * @param {Connection} state
 * @param {number} now
 * @returns {Connection}
 */
function heard(state, now) {
  if (state.stage !== "streaming") return { ...state, heardAt: now };
  const silence = state.transport === "websocket" ? SOCKET_SILENCE_MS : STREAM_SILENCE_MS;
  return { ...state, heardAt: now, pongBy: null, silentAt: now + silence };
}

/**
 * @param {Connection} state
 * @param {Frame} frame
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function framed(state, frame, now, chance) {
  switch (frame.type) {
    case "observation":
    case "gap":
    case "resumed":
      return positioned(state, frame, now);
    case "event":
      if (state.stage !== "streaming") return garbled(state, now, chance);
      return [heard(state, now), [{ type: "accept", frame }]];
    case "caught_up":
      if (state.stage !== "streaming") return garbled(state, now, chance);
      return [caughtUp(heard(state, now), now), []];
    case "error":
      return [{ ...heard(state, now), problem: frame.problem ?? null }, []];
    case "goodbye": {
      const end = { code: frame.code, retryAfterMs: frame.retry_after_ms, jitterMs: frame.jitter_ms };
      const [next, effects] = over(state, { ...end, problem: problemOf(frame) }, now, chance);
      return [next, [...closing(state), ...effects]];
    }
    default:
      return [heard(state, now), []];
  }
}

/**
 * A frame that says where the stream stands, with the state of that position unless the known one is good.
 *
 * @param {Connection} state
 * @param {Frame} frame
 * @param {number} now
 * @returns {Step}
 */
function positioned(state, frame, now) {
  const streaming = heard({ ...state, stage: "streaming", firstFrameBy: null }, now);
  if (frame.type === "resumed") return [streaming, []];
  const replaced = frame.type === "gap" || state.replacing;
  const next = { ...streaming, remembers: true, replacing: false };
  if (replaced) Object.assign(next, { resynchronised: state.resynchronised + 1, markUntil: now + MARK_MS });
  return [next, [{ type: "accept", frame }]];
}

/**
 * @param {Connection} state
 * @param {number} now
 * @returns {Connection}
 */
function caughtUp(state, now) {
  const overSocket = state.transport === "websocket";
  return {
    ...state,
    caughtUp: true,
    everLive: true,
    attempt: 0,
    problem: null,
    socketFailures: overSocket ? 0 : state.socketFailures,
    socketWorked: overSocket || state.socketWorked,
    markUntil: state.markUntil === null ? null : now + MARK_MS,
  };
}

/**
 * The connection is gone; what now?
 *
 * @param {Connection} state
 * @param {End} end
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function over(state, end, now, chance) {
  const problem = end.problem ?? state.problem ?? undefined;
  const counted = { ...state, socketFailures: socketFailures(state, end) };
  switch (verdictOn({ ...end, problem }, state.remembers)) {
    case "forget":
      return forgotten({ ...counted, problem: null }, now);
    case "end":
      return [{ ...quiet(counted, "ended"), problem: problem ?? null }, []];
    case "retry": {
      const attempt = state.attempt + 1;
      const retryAt = now + backoff(attempt, chance, end);
      return [{ ...quiet(counted, "waiting"), attempt, problem: null, retryAt }, []];
    }
  }
}

/**
 * Starts over at once, from a fresh snapshot. It cannot go round: a fresh start has no cursor to be refused.
 *
 * @param {Connection} state
 * @param {number} now
 * @returns {Step}
 */
function forgotten(state, now) {
  const [next, effects] = opened({ ...state, remembers: false, replacing: true }, now);
  return [next, [{ type: "forget" }, ...effects]];
}

/**
 * Something arrived that cannot be understood or folded. Skipping it would be a silent hole, so the state is given up too.
 *
 * @param {Connection} state
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function garbled(state, now, chance) {
  const [next, effects] = over({ ...state, remembers: false, replacing: state.remembers || state.replacing }, {}, now, chance);
  return [next, [...closing(state), { type: "forget" }, ...effects]];
}

/**
 * @param {Connection} state
 * @param {End} end
 */
function socketFailures(state, end) {
  const brought = state.stage === "streaming";
  if (state.transport === "sse") return brought ? SOCKET_FAILURES - 1 : 0;
  return brought || saidByServer(end) ? state.socketFailures : state.socketFailures + 1;
}

/**
 * @param {Frame} goodbye
 * @returns {Problem | undefined}
 */
function problemOf({ reason, code }) {
  return typeof code === "number" && code >= 4000 && code <= 4499 ? { code: reason, detail: undefined } : undefined;
}

/** @type {Move} */
function woken(state, now, chance) {
  if (state.stage === "waiting") return opened(state, now);
  if (state.stage !== "streaming") return [state, []];
  if (state.transport === "websocket") return asked(state, now);
  return now - state.heardAt > STREAM_STALE_MS ? lost(state, now, chance) : [state, []];
}

/**
 * Asks for a sign of life.
 *
 * @param {Connection} state
 * @param {number} now
 * @returns {Step}
 */
function asked(state, now) {
  if (state.pongBy !== null) return [state, []];
  return [{ ...state, pongBy: now + PONG_MS, silentAt: null }, [{ type: "ping", generation: state.generation }]];
}

/** @type {Move} */
function lost(state, now, chance) {
  const [next, effects] = over(state, {}, now, chance);
  return [next, [...closing(state), ...effects]];
}

/** @type {Move} */
function ticked(state, now, chance) {
  const due = (/** @type {number | null} */ at) => at !== null && at <= now;
  if (due(state.markUntil)) state = { ...state, markUntil: null };
  if (due(state.retryAt)) return opened(state, now);
  if (due(state.firstFrameBy) || due(state.pongBy)) return lost(state, now, chance);
  if (due(state.silentAt)) return state.transport === "websocket" ? asked(state, now) : lost(state, now, chance);
  return [state, []];
}
