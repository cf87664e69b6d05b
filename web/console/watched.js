/**
 * The session this page is looking at: its client, its outbox and its history, from choosing it to leaving it.
 */

import { NO_HISTORY, hasOlder, oldestOf, withPage, withView } from "./history.js";

/** @typedef {import("../client/types.js").Frame} Frame */

const OLDER = 100;

/**
 * @typedef {object} WatchedOptions
 * @property {string} sessionId
 * @property {import("../client/api.js").Api} api
 * @property {import("./streams.js").Streams} streams
 * @property {import("./outbox.js").Outbox} outbox
 * @property {() => void} onChange
 * @property {(message: string) => void} onTurnError
 */

export class Watched {
  #api;
  #streams;
  #onChange;
  #onTurnError;
  #loading = false;
  /** @type {string | null} the turn that was asked to stop */
  stopping = null;

  /** @param {WatchedOptions} options */
  constructor({ sessionId, api, streams, outbox, onChange, onTurnError }) {
    this.sessionId = sessionId;
    this.outbox = outbox;
    this.#api = api;
    this.#streams = streams;
    this.#onChange = onChange;
    this.#onTurnError = onTurnError;
    /** @type {import("./history.js").History} */
    this.history = NO_HISTORY;
    this.client = this.#open();
  }

  /** Watches it again, by whatever way there is now. */
  reopen() {
    this.client.close();
    this.client = this.#open();
  }

  #open() {
    return this.#streams.open(this.sessionId, {
      onChange: () => this.#onChange(),
      onFrame: (frame) => {
        const message = turnErrorOf(frame);
        if (message) this.#onTurnError(message);
      },
    });
  }

  get snapshot() {
    return this.client.snapshot;
  }

  /** Takes the observation's messages into the history; cheap when they are the same. */
  get messages() {
    const view = this.snapshot.observation?.read_view;
    if (view) this.history = withView(this.history, view);
    return this.history;
  }

  get canShowOlder() {
    return !this.#loading && hasOlder(this.history);
  }

  async showOlder() {
    const before = oldestOf(this.history);
    if (this.#loading || before === null) return;
    this.#loading = true;
    try {
      const page = await this.#api.listMessages(this.sessionId, { before, limit: OLDER });
      this.history = withPage(this.history, before, page);
    } finally {
      this.#loading = false;
      this.#onChange();
    }
  }

  /** The turn that runs, or is about to: its id may come a moment after its claim. */
  get running() {
    const { live, queue = [] } = this.snapshot.observation ?? {};
    const claimed = queue.find((batch) => batch.state === "claimed");
    return live ?? claimed ?? null;
  }

  get isStopping() {
    return this.stopping !== null && this.stopping === this.running?.turn_id;
  }

  /** Asks the running turn to stop. The turn ends by itself; leaving the page would not end it. */
  async stop() {
    const turn_id = this.running?.turn_id;
    this.stopping = turn_id ?? null;
    this.#onChange();
    try {
      await this.#api.cancelTurn(this.sessionId, turn_id ? { turn_id } : {});
    } catch (error) {
      this.stopping = null;
      this.#onChange();
      throw error;
    }
  }

  /** @param {string} batchId */
  cancel(batchId) {
    return this.#api.cancelBatch(this.sessionId, batchId);
  }

  /**
   * @param {string} requestId
   * @param {unknown} answer
   */
  answer(requestId, answer) {
    return this.#api.answer(this.sessionId, requestId, answer);
  }

  /**
   * @param {import("./work.js").Sort} sort
   * @param {string} id
   */
  cancelWork(sort, id) {
    return sort === "process" ? this.#api.cancelProcess(id) : this.#api.cancelTask(this.sessionId, id);
  }

  /**
   * @param {import("./work.js").Sort} sort
   * @param {string} id
   * @param {string} target the session that gets it
   */
  handOver(sort, id, target) {
    const give = sort === "process" ? this.#api.transferProcesses : this.#api.transferTasks;
    return give(this.sessionId, target, [id]);
  }

  leave() {
    this.client.close();
  }
}

/**
 * @param {Frame} frame
 * @returns {string | null} what went wrong in a turn, when this frame says so
 */
function turnErrorOf({ type, kind, data }) {
  if (type !== "event") return null;
  if (kind === "turn_activity" && data.event.type === "error") return data.event.message;
  if (kind === "committed" && data.outcome?.status === "failed") return data.outcome.error?.message ?? "The turn failed.";
  return null;
}
