/**
 * Something to look at that changes: a snapshot that is the same object until anything in it differs, and who wants to know.
 */

/** @template {object} Snapshot */
export class Shown {
  /** @type {Snapshot} */
  #snapshot;
  /** @type {Set<() => void>} */
  #listeners = new Set();

  /** @param {Snapshot} snapshot */
  constructor(snapshot) {
    this.#snapshot = snapshot;
  }

  get snapshot() {
    return this.#snapshot;
  }

  /**
   * Calls back after each change, until the answer is called.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @param {Snapshot} now */
  show(now) {
    const old = this.#snapshot;
    const keys = /** @type {Array<keyof Snapshot>} */ (Object.keys(now));
    if (keys.every((key) => old[key] === now[key])) return;
    this.#snapshot = now;
    for (const listener of this.#listeners) listener();
  }
}
