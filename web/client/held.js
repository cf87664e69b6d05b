/**
 * What is held of one session: the state and its cursor, which are one thing.
 *
 * The order is the point. A frame is folded first; the new observation carries its cursor; only then can that cursor be stored
 * or resumed from. Whatever breaks before that leaves the older pair of state and cursor, which is still true.
 */

import { fold } from "./fold.js";

/** @typedef {import("./types.js").Observation} Observation */
/** @typedef {import("./types.js").Frame} Frame */

export const SAVE_EVERY_MS = 2_000;

/**
 * @typedef {object} HeldOptions
 * @property {string} sessionId
 * @property {string} name what it is stored under
 * @property {import("./storage.js").Keeper} [storage]
 * @property {Observation | null} [observation] to begin with, instead of what was stored
 * @property {() => number} now
 */

export class Held {
  #name;
  #storage;
  #now;
  #savedAt = -Infinity;
  #unsaved = false;
  /** @type {Observation | null} what is shown; stays on the screen after it was given up, until its successor comes */
  observation;
  /** @type {string | null} what can be resumed from: set after the fold, never before */
  cursor;

  /** @param {HeldOptions} options */
  constructor({ sessionId, name, storage, observation, now }) {
    this.#name = name;
    this.#storage = storage;
    this.#now = now;
    const known = observation ?? storage?.load(name) ?? null;
    this.observation = known?.session_id === sessionId ? known : null;
    this.cursor = this.observation?.cursor ?? null;
  }

  /**
   * Takes a snapshot, or an event that follows. Throws when that cannot be; nothing is changed then.
   *
   * @param {Frame} frame
   */
  take(frame) {
    const observation = frame.type === "event" ? fold(this.#known, /** @type {any} */ (frame)) : frame.observation;
    this.cursor = observation.cursor;
    this.observation = observation;
    this.#unsaved = true;
    if (this.#now() - this.#savedAt >= SAVE_EVERY_MS) this.save();
  }

  get #known() {
    if (this.observation === null || this.cursor === null) throw new TypeError("there is nothing the event could follow");
    return this.observation;
  }

  /** The cursor leads nowhere: it is dropped, with what was stored. */
  forget() {
    this.cursor = null;
    this.#unsaved = false;
    this.#storage?.drop(this.#name);
  }

  /** Stores state and cursor together, if there is anything new. */
  save() {
    if (!this.#storage || !this.#unsaved || !this.observation || this.cursor === null) return;
    this.#storage.save(this.#name, this.observation);
    this.#savedAt = this.#now();
    this.#unsaved = false;
  }
}
