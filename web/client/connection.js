/**
 * The life of one subscription, as a machine without input or output: `step(state, input, now, chance) → [state, effects]`.
 *
 * It is a link (`link.js`: one road after the other) that carries one session, and so has one track (`track.js`: what is
 * known of that session). What is added here is what one says of the other: the end of the session is the end of the road, and
 * a cursor that is refused (`forget`) opens the next road at once, without it.
 *
 * `accept` asks the shell to fold. Something that cannot be understood or folded is never skipped, which would be a silent hole:
 * road and state are given up together.
 */

import { earliest, link } from "./link.js";
import { phaseOfTrack, track } from "./track.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./link.js").Transport} Transport */
/** @typedef {import("./link.js").End} End */
/** @typedef {import("./track.js").Phase} Phase */
/** @typedef {import("./link.js").Link & import("./track.js").Track} Connection */

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
  return { ...track(remembers), ...link(transports) };
}

/**
 * What people are told.
 *
 * @param {Connection} state
 * @returns {Phase}
 */
export function phaseOf(state) {
  return state.stage === "ended" ? "unavailable" : phaseOfTrack(state, state.stage === "streaming");
}

/**
 * When the machine wants its next `tick`, or null when only the outside can move it.
 *
 * @param {Connection} state
 * @returns {number | null}
 */
export function deadlineOf({ retryAt, firstFrameBy, pongBy, silentAt, markUntil }) {
  return earliest([retryAt, firstFrameBy, pongBy, silentAt, markUntil]);
}
