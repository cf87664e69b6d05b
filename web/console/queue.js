/**
 * What waits: inputs on their way to the server, then those it has accepted and not begun.
 */

import { arrange, byId, element, setText } from "./dom.js";

/** @typedef {import("../client/types.js").BatchSummary} BatchSummary */
/** @typedef {import("./outbox.js").Unsent} Unsent */

/**
 * @typedef {object} QueueActions
 * @property {(batchId: string) => void} cancel
 * @property {(key: string) => void} again
 * @property {(key: string) => void} discard
 */

/** @typedef {{id: string, state: string, text: string, buttons: Array<[word: string, act: () => void]>}} Row */

export class QueueView {
  #section = byId("queue", HTMLElement);
  #list = byId("queue-list", HTMLElement);
  #actions;
  /** @type {Map<string, {state: string, made: HTMLElement}>} */
  #rows = new Map();
  /** @type {unknown[]} */
  #shown = [];

  /** @param {QueueActions} actions */
  constructor(actions) {
    this.#actions = actions;
  }

  /**
   * @param {ReadonlyArray<BatchSummary>} queue
   * @param {ReadonlyArray<Unsent>} unsent
   * @param {string | null} runningTurn
   */
  show(queue, unsent, runningTurn) {
    const now = [queue, unsent, runningTurn];
    if (now.every((part, index) => part === this.#shown[index])) return;
    this.#shown = now;
    const rows = [...this.#accepted(queue, runningTurn), ...this.#onTheWay(queue, unsent)];
    arrange(this.#list, rows.map((row) => this.#elementOf(row)));
    const kept = new Set(rows.map((row) => row.id));
    for (const id of this.#rows.keys()) if (!kept.has(id)) this.#rows.delete(id);
    this.#section.hidden = rows.length === 0;
  }

  /**
   * @param {ReadonlyArray<BatchSummary>} queue
   * @param {string | null} runningTurn
   * @returns {Row[]}
   */
  #accepted(queue, runningTurn) {
    return queue
      .filter((batch) => batch.state === "pending" || batch.turn_id === undefined || batch.turn_id !== runningTurn)
      .map(({ batch_id, state, preview }) => ({
        id: batch_id,
        state,
        text: preview,
        buttons: state === "pending" ? [["Cancel", () => this.#actions.cancel(batch_id)]] : [],
      }));
  }

  /**
   * @param {ReadonlyArray<BatchSummary>} queue
   * @param {ReadonlyArray<Unsent>} unsent
   * @returns {Row[]}
   */
  #onTheWay(queue, unsent) {
    const accepted = new Set(queue.map((batch) => batch.source_key));
    return unsent
      .filter(({ key }) => !accepted.has(`host:${key}`))
      .map(({ key, state, text }) => ({
        id: key,
        state,
        text,
        buttons:
          state === "unsent"
            ? [["Send again", () => this.#actions.again(key)], ["Discard", () => this.#actions.discard(key)]]
            : [],
      }));
  }

  /** @param {Row} row */
  #elementOf({ id, state, text, buttons }) {
    const known = this.#rows.get(id);
    if (known?.state === state) return known.made;
    const words = element("span", { class: "preview" });
    setText(words, text);
    const made = element("li", { "data-batch-id": id, "data-state": state }, words);
    if (state !== "pending") made.append(element("span", { class: "flag" }, WORDS.get(state) ?? state));
    for (const [word, act] of buttons) {
      const button = element("button", { type: "button", class: "quiet", "aria-label": `${word}: ${text}` }, word);
      button.addEventListener("click", act);
      made.append(button);
    }
    this.#rows.set(id, { state, made });
    return made;
  }
}

const WORDS = new Map([
  ["claimed", "starting"],
  ["sending", "sending"],
  ["unsent", "not sent"],
]);
