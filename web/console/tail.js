/**
 * The end of a process's log, while somebody looks at it: the newest lines, then each as it comes, until the process has ended.
 */

import { defaultHost } from "../client/host.js";
import { ProblemError } from "../client/index.js";

/** @typedef {import("../client/types.js").ProcessEvent} ProcessEvent */
/** @typedef {Pick<import("../client/api.js").Api, "getProcess" | "listProcessEvents">} ProcessApi */
/** @typedef {Pick<import("../client/host.js").Host, "setTimer" | "clearTimer">} Timers */

const LINES = 200;
const WAIT_SECONDS = 25;
const TROUBLE_MS = 2_000;
/** What a chatty process says within this time comes in one answer. */
const CALM_MS = 250;

export class Tail {
  #api;
  #processId;
  #onChange;
  #host;
  #stopping = new AbortController();
  /** @type {unknown} */
  #timer;
  #goOn = () => {};
  /** @type {ReadonlyArray<ProcessEvent>} replaced, never changed */
  events = [];
  /** @type {string | null} how the process ended; null while it runs */
  ended = null;
  /** @type {unknown} why nothing more comes */
  error = null;
  /** How often any of this has changed. */
  changes = 0;

  /**
   * @param {ProcessApi} api
   * @param {string} processId
   * @param {() => void} onChange
   * @param {Timers} [host]
   */
  constructor(api, processId, onChange, host = defaultHost()) {
    this.#api = api;
    this.#processId = processId;
    this.#onChange = onChange;
    this.#host = host;
    this.done = this.#follow();
  }

  close() {
    this.#stopping.abort();
    this.#host.clearTimer(this.#timer);
    this.#goOn();
  }

  #tell() {
    this.changes += 1;
    this.#onChange();
  }

  async #follow() {
    const { signal } = this.#stopping;
    let after = -1;
    while (!signal.aborted && this.ended === null) {
      try {
        const record = await this.#api.getProcess(this.#processId);
        if (after < 0) after = Math.max(0, record.last_sequence - LINES);
        const isOver = record.status !== "running";
        after = await this.#read(after, isOver ? 0 : WAIT_SECONDS, signal);
        if (isOver && after >= record.last_sequence) this.ended = record.status;
        this.error = null;
      } catch (error) {
        if (signal.aborted) return;
        this.error = error;
        this.#tell();
        if (error instanceof ProblemError && !error.retryable) return;
        await this.#pause(TROUBLE_MS);
        continue;
      }
      if (signal.aborted) return;
      this.#tell();
      if (this.ended === null) await this.#pause(CALM_MS);
    }
  }

  /**
   * @param {number} after
   * @param {number} wait
   * @param {AbortSignal} signal
   * @returns {Promise<number>} the sequence that has been read by now
   */
  async #read(after, wait, signal) {
    const { events } = await this.#api.listProcessEvents(this.#processId, { after, wait, limit: LINES, signal });
    if (events.length === 0) return after;
    this.events = [...this.events, ...events].slice(-LINES);
    return events[events.length - 1].sequence;
  }

  /**
   * @param {number} ms
   * @returns {Promise<void>}
   */
  #pause(ms) {
    return new Promise((resolve) => {
      this.#goOn = resolve;
      this.#timer = this.#host.setTimer(resolve, ms);
    });
  }
}
