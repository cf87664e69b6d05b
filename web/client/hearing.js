/**
 * What a server says on a connection of many subscriptions; the essay and the shapes are in `observing.js`.
 */

import { attended, canBeTold, changed, eachChanged, gathering, isNeeded, leave, left, offRoad, opened } from "./asking.js";
import { backoff } from "./backoff.js";
import { counted, progressed, quiet, streaming, waiting } from "./link.js";
import { INDEX } from "./observing.js";
import { caughtUp, givenUp, placed } from "./track.js";
import { endOf, verdictOn } from "./verdict.js";

/** @typedef {import("./observing.js").Observing} Observing */
/** @typedef {import("./observing.js").Subscription} Subscription */
/** @typedef {import("./observing.js").Effect} Effect */
/** @typedef {import("./asking.js").Step} Step */
/** @typedef {import("./link.js").End} End */
/** @typedef {import("./types.js").Frame} Frame */

const FIRST_FRAMES = new Set(["observation", "gap", "resumed", "index"]);

/**
 * @param {Observing} before
 * @param {Frame} frame
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
export function framed(before, frame, now, chance) {
  const state = streaming(before, now);
  const sessionId = frame.session_id;
  if (frame.type === "goodbye") {
    const end = endOf(frame);
    const isOfOne = typeof sessionId === "string" && verdictOn(end, false) === "end";
    return isOfOne ? refused(state, sessionId, end, now, chance) : left(state, over(state, end, now, chance));
  }
  if (frame.type === "pong") return departed(state, frame, now);
  if (typeof sessionId !== "string") {
    return [frame.type === "error" ? { ...state, refusal: frame.problem ?? null } : state, []];
  }
  const session = state.sessions.get(sessionId);
  if (!session) return [state, []];
  if (frame.type === "error") {
    const isAnswer = session.stage === "asked" && (frame.id === undefined || frame.id === session.question);
    const end = { status: frame.problem?.status, problem: frame.problem };
    return isAnswer ? refused(state, sessionId, end, now, chance) : [state, []];
  }
  if (FIRST_FRAMES.has(frame.type)) return begun(state, sessionId, session, frame, now);
  if (session.stage !== "shown") return [state, []];
  if (frame.type === "caught_up") return [present(state, sessionId, session, now), []];
  const isNews = frame.type === "event" || frame.type === "index_changed";
  return [state, isNews ? [{ type: "accept", sessionId, frame }] : []];
}

/**
 * @param {Observing} state
 * @param {string} sessionId
 * @param {Subscription} session
 * @param {Frame} frame
 * @param {number} now
 * @returns {Step}
 */
function begun(state, sessionId, session, frame, now) {
  if (session.stage !== "asked" && session.stage !== "shown") return [state, []];
  if (session.unwanted || session.anew) return leave(state, sessionId, {});
  /** @type {Subscription} */
  const shown = { ...placed(session, frame, now), stage: "shown" };
  /** @type {Effect[]} */
  const effects = frame.type === "resumed" ? [] : [{ type: "accept", sessionId, frame }];
  if (sessionId !== INDEX) return [changed(state, sessionId, shown), effects];
  return [present(state, sessionId, { ...shown, remembers: false }, now), effects];
}

/**
 * Nothing more comes of a session that was left.
 *
 * @param {Observing} state
 * @param {Frame} pong
 * @param {number} now
 * @returns {Step}
 */
function departed(state, pong, now) {
  for (const [sessionId, { stage, question, unwanted, retryAt }] of state.sessions) {
    if (stage !== "leaving" || question !== pong.id) continue;
    const next = changed(state, sessionId, unwanted ? null : { stage: "off" });
    return unwanted || retryAt !== null ? [next, []] : attended(next, sessionId, now);
  }
  return [state, []];
}

/**
 * @param {Observing} state
 * @param {string} sessionId
 * @param {Subscription} session
 * @param {number} now
 */
function present(state, sessionId, session, now) {
  return changed({ ...progressed(state), refusal: null }, sessionId, { ...caughtUp(session, now), attempt: 0 });
}

/**
 * One session is refused, or was taken away; the others go on.
 *
 * @param {Observing} state
 * @param {string} sessionId
 * @param {End} end
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
function refused(state, sessionId, end, now, chance) {
  const session = state.sessions.get(sessionId);
  if (!session) return [state, []];
  if (session.unwanted) return [changed(state, sessionId, null), []];
  if (session.anew) return attended(changed(state, sessionId, { stage: "off", anew: false }), sessionId, now);
  const off = { stage: /** @type {const} */ ("off"), caughtUp: false };
  switch (verdictOn(end, session.remembers)) {
    case "forget": {
      const [next, effects] = attended(changed(state, sessionId, { ...givenUp(session), ...off }), sessionId, now);
      return [next, [{ type: "forget", sessionId }, ...effects]];
    }
    case "end": {
      const next = changed(state, sessionId, { ...off, stage: "ended", problem: end.problem ?? null });
      return [isNeeded(next) ? next : gathering(next, now), []];
    }
    case "retry":
      return [changed(state, sessionId, { ...off, ...later(session, now, chance) }), []];
  }
}

/**
 * What came of a session does not fit: skipping it would be a silent hole, so its state is given up.
 *
 * @param {Observing} state
 * @param {string} sessionId
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
export function unfit(state, sessionId, now, chance) {
  const session = state.sessions.get(sessionId);
  if (session?.stage !== "shown") return [state, []];
  const change = { ...givenUp(session), ...later(session, now, chance) };
  const off = { ...change, stage: /** @type {const} */ ("off"), caughtUp: false };
  /** @type {Effect} */
  const forget = { type: "forget", sessionId };
  if (!canBeTold(state)) return [changed(state, sessionId, off), [forget]];
  const [next, effects] = leave(state, sessionId, change);
  return [next, [forget, ...effects]];
}

/**
 * @param {Subscription} session
 * @param {number} now
 * @param {number} chance
 */
function later(session, now, chance) {
  const attempt = session.attempt + 1;
  return { attempt, retryAt: now + backoff(attempt, chance) };
}

/**
 * The road is gone; what now?
 *
 * @param {Observing} before
 * @param {End} end
 * @param {number} now
 * @param {number} chance
 * @returns {Step}
 */
export function over(before, end, now, chance) {
  const problem = end.problem ?? before.refusal ?? undefined;
  const remembers = [...before.sessions.values()].some((session) => session.remembers);
  const state = { ...offRoad(counted(before, end)), refusal: null, gatherAt: null };
  switch (verdictOn({ ...end, problem }, remembers)) {
    case "forget":
      // It does not say whose cursor it was. It cannot go round: fresh starts have none to be refused.
      return forgotten(state, (next) => opened(next, now));
    case "end":
      return [{ ...quiet(state, "ended"), refusal: problem ?? null }, []];
    case "retry":
      return [waiting(state, end, now, chance), []];
  }
}

/**
 * Gives up the state of every session, then goes on.
 *
 * @param {Observing} state
 * @param {(state: Observing) => Step} goOn
 * @returns {Step}
 */
export function forgotten(state, goOn) {
  const known = [...state.sessions.keys()];
  const [next, effects] = goOn(eachChanged(state, (session) => givenUp(session)));
  return [next, [...known.map((sessionId) => /** @type {Effect} */ ({ type: "forget", sessionId })), ...effects]];
}
