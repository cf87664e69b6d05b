/**
 * Runs a machine without input or output in a place that has both: one input after the other, also those that come while the
 * effects of one are performed, and one timer for the machine's nearest deadline.
 */

/** @typedef {import("./host.js").Host} Host */

/**
 * @template State, Input, Effect
 * @typedef {object} DriverOptions
 * @property {State} state
 * @property {(state: State, input: Input, now: number, chance: number) => [State, Effect[]]} step
 * @property {(state: State) => number | null} deadlineOf
 * @property {Input} tick what is put in at the deadline
 * @property {(effect: Effect) => void} perform
 * @property {() => void} settled called when all inputs so far have had their effects
 * @property {Host} host
 */

/** @template State, Input, Effect */
export class Driver {
  #options;
  /** @type {Input[]} */
  #inputs = [];
  #busy = false;
  /** @type {unknown} */
  #timer = null;
  /** @type {number | null} */
  #timerAt = null;
  /** @type {State} */
  state;

  /** @param {DriverOptions<State, Input, Effect>} options */
  constructor(options) {
    this.#options = options;
    this.state = options.state;
  }

  /** @param {Input} input */
  put(input) {
    this.#inputs.push(input);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#inputs.shift(); next; next = this.#inputs.shift()) this.#advance(next);
    } finally {
      this.#busy = false;
    }
    this.#arm();
    this.#options.settled();
  }

  /** @param {Input} input */
  #advance(input) {
    const { step, perform, host } = this.#options;
    const [state, effects] = step(this.state, input, host.now(), host.random());
    this.state = state;
    for (const effect of effects) perform(effect);
  }

  #arm() {
    const { host, deadlineOf } = this.#options;
    const at = deadlineOf(this.state);
    if (at === this.#timerAt) return;
    if (this.#timer !== null) host.clearTimer(this.#timer);
    this.#timerAt = at;
    this.#timer = at === null ? null : host.setTimer(() => this.#ring(), Math.max(0, at - host.now()));
  }

  #ring() {
    this.#timer = this.#timerAt = null;
    this.put(this.#options.tick);
  }
}
