/**
 * The life of many subscriptions on one connection, as a machine without input or output:
 * `observe(state, input, now, chance) → [state, effects]`.
 *
 * It is a link (`link.js`: one road after the other) that carries any number of sessions, each of which has a track
 * (`track.js`: what is known of it) and a stage of its own. The list of sessions is one of them, named `*`; it has no cursor.
 *
 * Stages of a session, in words. `off`: wanted, and not asked for on this road, or to be asked for again at `retryAt`. `asked`:
 * its first frame has not come. `shown`: it came. `leaving`: it was unsubscribed, and frames may be on their way. `ended`: the
 * server's answer about this session is final until somebody says `retry`. A lost road puts all but the last back to `off`, and
 * the next one asks for every one of them.
 *
 * Hard decisions, and why they went this way:
 *
 * - **Only while something is wanted.** With nothing to watch there is no road. The first `watch` opens one and the last
 *   `unwatch` closes it, a moment later: a page that goes from one session to another keeps its road.
 * - **What concerns one, ends one.** An `error` that names a session, its deletion, an event of it that cannot be folded: the
 *   others do not notice. Any other goodbye is the road's, though each session gets its own: the first one is taken.
 * - **One question at a time.** A server that still reads a session would refuse it to who leaves and asks again, and does not
 *   say when it has let go. So who is unwatched while `asked` is left only when the answer is there (`unwanted`), and asked for
 *   again after that if it was wanted again (`anew`). Refusals carry the number of their question; others' are ignored.
 * - **Late frames are not ours.** What an old subscription still brings must not be taken for the new one's. A `ping` goes after
 *   every `unsubscribe`, and nothing of that session is heard or asked for before its `pong`.
 * - **Server-sent events name their sessions once.** Another set is another road: a moment after the last change, so that a page
 *   that opens twenty sessions does it once. Nothing is lost by it, because each goes on from its cursor.
 */

import { earliest, link } from "./link.js";
import { phaseOfTrack, track } from "./track.js";

export const INDEX = "*";
export const GATHER_MS = 50;

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Problem} Problem */
/** @typedef {import("./link.js").Transport} Transport */
/** @typedef {import("./link.js").End} End */
/** @typedef {import("./track.js").Phase} Phase */

/**
 * @typedef {object} Asked
 * @property {'off' | 'asked' | 'shown' | 'leaving' | 'ended'} stage
 * @property {boolean} unwanted to be left as soon as there is an answer
 * @property {boolean} anew to be asked for again then
 * @property {number} question number of the latest question, or of the ping behind the latest `unsubscribe`
 * @property {number} attempt failures of this session alone since it was caught up
 * @property {number | null} retryAt
 */

/** @typedef {import("./track.js").Track & Asked} Subscription */
/** @typedef {ReadonlyMap<string, Subscription>} Subscriptions */

/**
 * @typedef {object} Many
 * @property {boolean} open whether this road takes frames
 * @property {number} questions how many were asked so far
 * @property {Subscriptions} sessions
 * @property {number | null} sessionsAt no session has a deadline before that
 * @property {number | null} gatherAt when a changed set of sessions is acted on
 * @property {Problem | null} refusal what the server said about the whole
 */

/** @typedef {import("./link.js").Link & Many} Observing */

/**
 * @typedef {{type: 'watch', sessionId: string, remembers: boolean} | {type: 'unwatch', sessionId: string}
 *   | {type: 'retry', sessionId: string} | {type: 'settle', sessionId: string} | {type: 'unfit', sessionId: string}
 *   | {type: 'stop'} | {type: 'tick'} | {type: 'wake'}
 *   | {type: 'opened', generation: number}
 *   | {type: 'frame', generation: number, frame: Frame}
 *   | {type: 'alive', generation: number}
 *   | {type: 'closed', generation: number, end?: End}
 *   | {type: 'garbled', generation: number}} Input `unfit`: what was accepted cannot be folded
 */

/**
 * @typedef {{type: 'open', generation: number, transport: Transport, sessions: string[]}
 *   | {type: 'close', generation: number}
 *   | {type: 'ping', generation: number}
 *   | {type: 'subscribe', sessionId: string, question: number}
 *   | {type: 'unsubscribe', sessionId: string, question: number}
 *   | {type: 'accept', sessionId: string, frame: Frame}
 *   | {type: 'forget', sessionId: string}} Effect `open` names the sessions where the road cannot be told later
 */

/**
 * @param {{transports: ReadonlyArray<Transport>}} place
 * @returns {Observing}
 */
export function observing({ transports }) {
  const many = { open: false, questions: 0, sessions: new Map(), sessionsAt: null, gatherAt: null, refusal: null };
  return { ...link(transports), ...many };
}

/**
 * @param {boolean} remembers
 * @returns {Subscription}
 */
export function subscription(remembers) {
  return { ...track(remembers), stage: "off", unwanted: false, anew: false, question: 0, attempt: 0, retryAt: null };
}

/**
 * What people are told of one of them.
 *
 * @param {Observing} state
 * @param {string} sessionId
 * @returns {{phase: Phase, problem: Problem | null, resynchronised: number}}
 */
export function standing(state, sessionId) {
  const session = state.sessions.get(sessionId);
  if (!session || session.unwanted) return { phase: "connecting", problem: null, resynchronised: 0 };
  const { resynchronised } = session;
  if (session.stage === "ended") return { phase: "unavailable", problem: session.problem, resynchronised };
  if (state.stage === "ended") return { phase: "unavailable", problem: state.refusal, resynchronised };
  return { phase: phaseOfTrack(session, session.stage === "shown"), problem: null, resynchronised };
}

/**
 * When the machine wants its next `tick`, or null when only the outside can move it.
 *
 * @param {Observing} state
 * @returns {number | null}
 */
export function observingDeadline({ retryAt, firstFrameBy, pongBy, silentAt, sessionsAt, gatherAt }) {
  return earliest([retryAt, firstFrameBy, pongBy, silentAt, sessionsAt, gatherAt]);
}
