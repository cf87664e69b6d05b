/**
 * The transitions of a connection; the essay and the shapes are in `connection.js`. One function per thing that can happen,
 * each from a state to the next state and what the shell must do now, in order.
 */

import { asked, closing, counted, heard, isConnected, isDue, needOnTick, needOnWake } from "./link.js";
import { opening, progressed, quiet, streaming, waiting } from "./link.js";
import { caughtUp, givenUp, placed } from "./track.js";
import { endOf, verdictOn } from "./verdict.js";

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./connection.js").Input} Input */
/** @typedef {import("./connection.js").Effect} Effect */
/** @typedef {import("./link.js").End} End */
/** @typedef {import("./link.js").Need} Need */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {[Connection, Effect[]]} Step */

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
      return met(state, needOnWake(state, now), now, chance);
    case "tick": {
      const unmarked = isDue(state.markUntil, now) ? { ...state, markUntil: null } : state;
      return met(unmarked, needOnTick(state, now), now, chance);
    }
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

/**
 * @param {Connection} state
 * @param {Need} need
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function met(state, need, now, chance) {
  switch (need) {
    case "open":
      return opened(state, now);
    case "ask":
      return [asked(state, now), [{ type: "ping", generation: state.generation }]];
    case "lose":
      return left(state, over(state, {}, now, chance));
    case null:
      return [state, []];
  }
}

/**
 * @param {Connection} state
 * @param {number} now
 * @returns {Step}
 */
function opened(state, now) {
  const next = opening(state, now);
  return [next, [{ type: "open", generation: next.generation, transport: next.transport, fresh: !next.remembers }]];
}

/**
 * The same step, with the road closed from here first.
 *
 * @param {Connection} before
 * @param {Step} step
 * @returns {Step}
 */
function left(before, [state, effects]) {
  return [state, [...closing(before), ...effects]];
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
      return [placed(streaming(state, now), frame, now), frame.type === "resumed" ? [] : [{ type: "accept", frame }]];
    case "event":
      if (state.stage !== "streaming") return garbled(state, now, chance);
      return [heard(state, now), [{ type: "accept", frame }]];
    case "caught_up":
      if (state.stage !== "streaming") return garbled(state, now, chance);
      return [caughtUp(progressed(heard(state, now)), now), []];
    case "error":
      return [{ ...heard(state, now), problem: frame.problem ?? null }, []];
    case "goodbye":
      return left(state, over(state, endOf(frame), now, chance));
    default:
      return [heard(state, now), []];
  }
}

/**
 * The connection is gone; what now?
 *
 * @param {Connection} before
 * @param {End} end
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function over(before, end, now, chance) {
  const problem = end.problem ?? before.problem ?? undefined;
  const state = { ...counted(before, end), problem: null };
  switch (verdictOn({ ...end, problem }, state.remembers)) {
    case "forget": {
      // It cannot go round: a fresh start has no cursor to be refused.
      const [next, effects] = opened({ ...state, remembers: false, replacing: true }, now);
      return [next, [{ type: "forget" }, ...effects]];
    }
    case "end":
      return [{ ...quiet(state, "ended"), problem: problem ?? null }, []];
    case "retry":
      return [waiting(state, end, now, chance), []];
  }
}

/**
 * @param {Connection} state
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function garbled(state, now, chance) {
  const [next, effects] = over(givenUp(state), {}, now, chance);
  return left(state, [next, [{ type: "forget" }, ...effects]]);
}
