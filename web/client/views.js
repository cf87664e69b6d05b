/**
 * What is shown of one session, and of the list of sessions, where many are watched on one connection. They hold what came and
 * know nothing of how; the connection tells them.
 */

import { listed } from "./listing.js";
import { Shown } from "./shown.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Snapshot} Snapshot */
/** @typedef {import("./types.js").ListSnapshot} ListSnapshot */
/** @typedef {ReturnType<typeof import("./observing.js").standing>} Standing */

/**
 * What a view can ask of its connection.
 *
 * @typedef {object} Asks
 * @property {() => void} retry
 * @property {() => void} settle
 * @property {() => void} close
 */

const AT_FIRST = { phase: "connecting", problem: null };

/** One session. To be used as a `SessionClient` is. */
export class SessionView {
  #held;
  #asks;
  #shown;
  /** @type {Set<(frame: Frame) => void>} */
  #onFrames = new Set();

  /**
   * @param {string} sessionId
   * @param {import("./held.js").Held} held
   * @param {Asks} asks
   */
  constructor(sessionId, held, asks) {
    this.sessionId = sessionId;
    this.#held = held;
    this.#asks = asks;
    this.#shown = new Shown(/** @type {Snapshot} */ ({ observation: held.observation, ...AT_FIRST, resynchronised: 0 }));
  }

  /** The same object until something changes. */
  get snapshot() {
    return this.#shown.snapshot;
  }

  /**
   * Calls back after each change, until the answer is called.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    return this.#shown.subscribe(listener);
  }

  /**
   * Calls back with every frame that was folded, after it was, until the answer is called.
   *
   * @param {(frame: Frame) => void} listener
   * @returns {() => void}
   */
  onFrame(listener) {
    this.#onFrames.add(listener);
    return () => this.#onFrames.delete(listener);
  }

  /** Asks again after the server's answer was final. */
  retry() {
    this.#asks.retry();
  }

  /** The user has moved on: the mark of a resynchronisation may go. */
  settle() {
    this.#asks.settle();
  }

  /** Stops watching this session. The session goes on without us, and so do the others. */
  close() {
    this.#asks.close();
  }

  /**
   * For the connection. Throws when the frame cannot be folded into what is held.
   *
   * @param {Frame} frame
   */
  take(frame) {
    this.#held.take(frame);
  }

  /**
   * For the connection, once a frame was taken.
   *
   * @param {Frame} frame
   */
  told(frame) {
    for (const listener of this.#onFrames) listener(frame);
  }

  /**
   * For the connection.
   *
   * @param {Standing} standing
   */
  show({ phase, problem, resynchronised }) {
    this.#shown.show({ observation: this.#held.observation, phase, resynchronised, problem });
  }
}

/** The list of sessions. */
export class ListView {
  #asks;
  #shown;
  /** @type {ListSnapshot["sessions"]} */
  #sessions = null;

  /** @param {Asks} asks */
  constructor(asks) {
    this.#asks = asks;
    this.#shown = new Shown(/** @type {ListSnapshot} */ ({ sessions: null, ...AT_FIRST }));
  }

  /** The same object until something changes. */
  get snapshot() {
    return this.#shown.snapshot;
  }

  /**
   * Calls back after each change, until the answer is called.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    return this.#shown.subscribe(listener);
  }

  /** Asks again after the server's answer was final. */
  retry() {
    this.#asks.retry();
  }

  /** Stops watching the list. */
  close() {
    this.#asks.close();
  }

  /**
   * For the connection.
   *
   * @param {Frame} frame
   */
  take(frame) {
    this.#sessions = listed(this.#sessions, frame);
  }

  /** For the connection. */
  told() {}

  /**
   * For the connection.
   *
   * @param {Standing} standing
   */
  show({ phase, problem }) {
    this.#shown.show({ sessions: this.#sessions, phase, problem });
  }
}
