/**
 * The transitions of many subscriptions on one connection; the essay and the shapes are in `observing.js`. What is asked for is
 * in `asking.js`, what the server says in `hearing.js`.
 */

import { askAll, attended, canBeTold, changed, eachChanged, gathering, isNeeded } from "./asking.js";
import { leave, left, offRoad, opened, withSessions } from "./asking.js";
import { forgotten, framed, over, unfit } from "./hearing.js";
import { asked, closing, heard, isConnected, isDue, needOnTick, needOnWake, quiet } from "./link.js";
import { subscription } from "./observing.js";

/** @typedef {import("./observing.js").Observing} Observing */
/** @typedef {import("./observing.js").Input} Input */
/** @typedef {import("./observing.js").Effect} Effect */
/** @typedef {import("./asking.js").Step} Step */
/** @typedef {import("./link.js").Need} Need */

/**
 * @param {Observing} state
 * @param {Input} input
 * @param {number} now milliseconds of any clock that only moves forward
 * @param {number} chance a number in [0, 1), used when a wait is drawn
 * @returns {Step}
 */
export function observe(state, input, now, chance) {
  switch (input.type) {
    case "watch":
      return watched(state, input.sessionId, input.remembers, now);
    case "unwatch":
      return unwatched(state, input.sessionId, now);
    case "retry":
      return retried(state, input.sessionId, now);
    case "settle":
      return [changed(state, input.sessionId, { markUntil: null }), []];
    case "unfit":
      return unfit(state, input.sessionId, now, chance);
    case "stop":
      return [withSessions({ ...quiet(state, "idle"), gatherAt: null }, new Map()), closing(state)];
    case "wake":
      return met(state, needOnWake(state, now), now, chance);
    case "tick":
      return ticked(state, now, chance);
  }
  if (input.generation !== state.generation || !isConnected(state)) return [state, []];
  switch (input.type) {
    case "opened":
      return askAll({ ...state, open: true });
    case "frame":
      return framed(state, input.frame, now, chance);
    case "alive":
      return [heard(state, now), []];
    case "closed":
      return over(state, input.end ?? {}, now, chance);
    case "garbled":
      return left(state, forgotten(state, (next) => over(next, {}, now, chance)));
  }
}

/**
 * @param {Observing} state
 * @param {string} sessionId
 * @param {boolean} remembers
 * @param {number} now
 * @returns {Step}
 */
function watched(state, sessionId, remembers, now) {
  const known = state.sessions.get(sessionId);
  if (known && !known.unwanted) return [state, []];
  if (known) {
    const { stage, question } = known;
    return [changed(state, sessionId, { ...subscription(remembers), stage, question, anew: stage === "asked" }), []];
  }
  return attended({ ...state, sessions: new Map(state.sessions).set(sessionId, subscription(remembers)) }, sessionId, now);
}

/**
 * @param {Observing} state
 * @param {string} sessionId
 * @param {number} now
 * @returns {Step}
 */
function unwatched(state, sessionId, now) {
  const session = state.sessions.get(sessionId);
  if (!session || session.unwanted) return [state, []];
  const next = gathering(state, now);
  if (!canBeTold(state) || session.stage === "off" || session.stage === "ended") return [changed(next, sessionId, null), []];
  if (session.stage === "shown") return leave(next, sessionId, { unwanted: true });
  return [changed(next, sessionId, { unwanted: true, anew: false }), []];
}

/**
 * @param {Observing} state
 * @param {string} sessionId
 * @param {number} now
 * @returns {Step}
 */
function retried(state, sessionId, now) {
  const session = state.sessions.get(sessionId);
  if (!session) return [state, []];
  if (session.stage === "ended") state = changed(state, sessionId, { stage: "off", problem: null, attempt: 0 });
  if (state.stage === "ended") return opened({ ...state, attempt: 0, refusal: null }, now);
  return session.stage === "ended" ? attended(state, sessionId, now) : [state, []];
}

/**
 * @param {Observing} state
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
 * @param {Observing} state
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function ticked(state, now, chance) {
  const need = needOnTick(state, now);
  if (isDue(state.sessionsAt, now)) {
    state = eachChanged(state, (session) => (isDue(session.markUntil, now) ? { ...session, markUntil: null } : session));
  }
  if (need) return met(state, need, now, chance);
  if (isDue(state.gatherAt, now)) return gathered({ ...state, gatherAt: null }, now);
  return isDue(state.sessionsAt, now) ? askedAgain(state, now) : [state, []];
}

/**
 * Acts on a set of sessions that has changed.
 *
 * @param {Observing} state
 * @param {number} now
 * @returns {Step}
 */
function gathered(state, now) {
  if (!isNeeded(state)) return left(state, [quiet(offRoad(state), "idle"), []]);
  return isConnected(state) && state.transport === "sse" ? left(state, opened(state, now)) : [state, []];
}

/**
 * @param {Observing} state
 * @param {number} now
 * @returns {Step}
 */
function askedAgain(state, now) {
  /** @type {Effect[]} */
  const effects = [];
  for (const [sessionId, { retryAt, stage }] of state.sessions) {
    if (!isDue(retryAt, now)) continue;
    state = changed(state, sessionId, { retryAt: null });
    if (stage !== "off") continue;
    const [next, more] = attended(state, sessionId, now);
    state = next;
    effects.push(...more);
  }
  return [state, effects];
}
