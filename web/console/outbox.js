/**
 * What was typed and is not yet known to be accepted. One after the other, so that the order of typing is the order of work;
 * each under its own key, so that sending again cannot do it twice. An input that could not be sent is kept for the user.
 */

/**
 * @typedef {object} Unsent
 * @property {string} key
 * @property {string} text
 * @property {'sending' | 'unsent'} state
 */

export class Outbox {
  #send;
  #reports;
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** @type {ReadonlyArray<Unsent>} replaced, never changed */
  entries = [];

  /**
   * @param {(text: string, key: string) => Promise<unknown>} send
   * @param {{onChange: () => void, onSent: () => void, onFailed: (error: unknown) => void}} reports
   */
  constructor(send, reports) {
    this.#send = send;
    this.#reports = reports;
  }

  /**
   * @param {string} text
   * @param {string} key
   */
  put(text, key) {
    this.entries = [...this.entries, { key, text, state: "sending" }];
    this.#queue(text, key);
  }

  /** @param {string} key */
  again(key) {
    const entry = this.entries.find((other) => other.key === key);
    if (entry?.state !== "unsent") return;
    this.#set(key, "sending");
    this.#queue(entry.text, key);
  }

  /** @param {string} key */
  discard(key) {
    this.entries = this.entries.filter((entry) => entry.key !== key);
    this.#reports.onChange();
  }

  /**
   * @param {string} text
   * @param {string} key
   */
  #queue(text, key) {
    this.#reports.onChange();
    this.#last = this.#last
      .then(() => this.#send(text, key))
      .then(
        () => {
          this.discard(key);
          this.#reports.onSent();
        },
        (error) => {
          this.#set(key, "unsent");
          this.#reports.onChange();
          this.#reports.onFailed(error);
        },
      );
  }

  /**
   * @param {string} key
   * @param {Unsent["state"]} state
   */
  #set(key, state) {
    this.entries = this.entries.map((entry) => (entry.key === key ? { ...entry, state } : entry));
  }
}
