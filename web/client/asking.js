/**
 * The set of sessions of a connection, and how each of them gets asked for; the essay and the shapes are in `observing.js`.
 */

import { closing, earliest, isConnected, opening, quiet } from "./link.js";
import { GATHER_MS } from "./observing.js";

/** @typedef {import("./observing.js").Observing} Observing */
/** @typedef {import("./observing.js").Subscription} Subscription */
/** @typedef {import("./observing.js").Subscriptions} Subscriptions */
/** @typedef {import("./observing.js").Effect} Effect */
/** @typedef {[Observing, Effect[]]} Step */

const ASKED = { stage: /** @type {const} */ ("asked"), caughtUp: false, unwanted: false, anew: false, retryAt: null };

/**
 * @param {Observing} state
 * @param {Subscriptions} sessions
 * @returns {Observing}
 */
export function withSessions(state, sessions) {
  const sessionsAt = earliest([...sessions.values()].flatMap(({ markUntil, retryAt }) => [markUntil, retryAt]));
  return { ...state, sessions, sessionsAt };
}

/**
 * Changes one of many, and looks at no other: a deadline that has gone stands until it would have been due.
 *
 * @param {Observing} state
 * @param {string} sessionId
 * @param {Partial<Subscription> | null} change null when it is gone
 * @returns {Observing}
 */
export function changed(state, sessionId, change) {
  const session = state.sessions.get(sessionId);
  if (!session) return state;
  const sessions = new Map(state.sessions);
  if (!change) {
    sessions.delete(sessionId);
    return { ...state, sessions };
  }
  const next = { ...session, ...change };
  const sessionsAt = earliest([state.sessionsAt, next.markUntil, next.retryAt]);
  return { ...state, sessions: sessions.set(sessionId, next), sessionsAt };
}

/**
 * @param {Observing} state
 * @param {(session: Subscription, sessionId: string) => Subscription | null} change null when it is gone
 * @returns {Observing}
 */
export function eachChanged(state, change) {
  /** @type {Map<string, Subscription>} */
  const sessions = new Map();
  for (const [sessionId, session] of state.sessions) {
    const next = change(session, sessionId);
    if (next) sessions.set(sessionId, next);
  }
  return withSessions(state, sessions);
}

/** @param {Subscription} session */
function isAskable({ stage, unwanted }) {
  return stage !== "ended" && !unwanted;
}

/** @param {Observing} state */
export function isNeeded({ sessions }) {
  return [...sessions.values()].some(isAskable);
}

/**
 * Has the change of the set acted on in a moment, unless that is due already.
 *
 * @param {Observing} state
 * @param {number} now
 * @returns {Observing}
 */
export function gathering(state, now) {
  const matters = state.stage === "waiting" || isConnected(state);
  return matters ? { ...state, gatherAt: state.gatherAt ?? now + GATHER_MS } : state;
}

/** @param {Observing} state */
export function canBeTold(state) {
  return state.transport === "websocket" && state.open && isConnected(state);
}

/**
 * Asks for a session that is `off`, as fast as the road allows.
 *
 * @param {Observing} state
 * @param {string} sessionId
 * @param {number} now
 * @returns {Step}
 */
export function attended(state, sessionId, now) {
  if (state.stage === "idle") return opened(state, now);
  if (canBeTold(state)) return ask(state, sessionId);
  return [isConnected(state) && state.transport === "sse" ? gathering(state, now) : state, []];
}

/**
 * @param {Observing} state
 * @param {string} sessionId
 * @returns {Step}
 */
export function ask(state, sessionId) {
  const question = state.questions + 1;
  const change = { ...ASKED, question };
  return [{ ...changed(state, sessionId, change), questions: question }, [{ type: "subscribe", sessionId, question }]];
}

/**
 * Leaves a session that is shown. What is said of it counts again when this question, too, was answered.
 *
 * @param {Observing} state
 * @param {string} sessionId
 * @param {Partial<Subscription>} change
 * @returns {Step}
 */
export function leave(state, sessionId, change) {
  const question = state.questions + 1;
  const leaving = { ...change, stage: /** @type {const} */ ("leaving"), caughtUp: false, anew: false, question };
  return [{ ...changed(state, sessionId, leaving), questions: question }, [{ type: "unsubscribe", sessionId, question }]];
}

/**
 * @param {Observing} state
 * @returns {Step}
 */
export function askAll(state) {
  let { questions } = state;
  /** @type {Effect[]} */
  const effects = [];
  const next = eachChanged(state, (session, sessionId) => {
    if (session.stage !== "off") return session;
    questions += 1;
    effects.push({ type: "subscribe", sessionId, question: questions });
    return { ...session, ...ASKED, question: questions };
  });
  return [{ ...next, questions }, effects];
}

/**
 * Asks for the next road, if there is anything to ask it for. A road of one direction is told now what it is to bring.
 *
 * @param {Observing} state
 * @param {number} now
 * @returns {Step}
 */
export function opened(state, now) {
  const without = { ...offRoad(state), gatherAt: null, open: false };
  if (!isNeeded(without)) return [quiet(without, "idle"), []];
  const next = opening(without, now);
  const { generation, transport } = next;
  if (transport === "websocket") return [next, [{ type: "open", generation, transport, sessions: [] }]];
  const [told, questions] = askAll(next);
  const sessions = questions.flatMap((effect) => (effect.type === "subscribe" ? [effect.sessionId] : []));
  return [told, [{ type: "open", generation, transport, sessions }]];
}

/**
 * With every session as it is without a road.
 *
 * @param {Observing} state
 * @returns {Observing}
 */
export function offRoad(state) {
  return eachChanged(state, (session) => {
    if (session.unwanted) return null;
    return session.stage === "ended" ? session : { ...session, stage: "off", caughtUp: false, anew: false, retryAt: null };
  });
}

/**
 * The same step, with the road closed from here first.
 *
 * @param {Observing} before
 * @param {Step} step
 * @returns {Step}
 */
export function left(before, [state, effects]) {
  return [state, [...closing(before), ...effects]];
}
