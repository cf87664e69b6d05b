/**
 * One session, watched: performs what the connection machine asks for, folds what comes, and keeps the result.
 *
 * The order is the point. A frame is folded first; the new observation carries its cursor; only then can that cursor be stored
 * or resumed from. Whatever breaks before that leaves the older pair of state and cursor, which is still true.
 */

import { address, asWebSocket, ownOrigin, sessionPath } from "./address.js";
import { connection, deadlineOf, phaseOf } from "./connection.js";
import { fold } from "./fold.js";
import { defaultHost } from "./host.js";
import { step } from "./step.js";
import { openEventStream, openWebSocket } from "./transports.js";

/** @typedef {import("./types.js").Observation} Observation */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./connection.js").Input} Input */
/** @typedef {import("./connection.js").Transport} Transport */

export const SAVE_EVERY_MS = 2_000;

/**
 * @typedef {object} Snapshot What a view shows; a new object whenever anything in it changed.
 * @property {Observation | null} observation
 * @property {import("./connection.js").Phase} phase
 * @property {number} resynchronised how often the state had to be replaced
 * @property {import("./types.js").Problem | null} problem why the phase is `unavailable`
 */

/**
 * @typedef {object} SessionOptions
 * @property {string} sessionId
 * @property {string} [baseUrl] the page's own origin unless given
 * @property {number} [messages] how many of the newest messages a snapshot brings
 * @property {import("./storage.js").Keeper} [storage] where to keep the state over a reload; without it, nowhere
 * @property {ReadonlyArray<Transport>} [transports]
 * @property {Record<string, string>} [headers] for server-sent events; a browser's WebSocket cannot carry any
 * @property {(snapshot: Snapshot) => void} [onChange]
 * @property {(frame: Frame) => void} [onFrame] every frame that was folded, after it was
 * @property {Partial<import("./host.js").Host>} [host]
 */

/**
 * Starts watching a session.
 *
 * @param {SessionOptions} options
 * @returns {SessionClient}
 */
export function connectSession(options) {
  const client = new SessionClient(options);
  client.start();
  return client;
}

export class SessionClient {
  #options;
  #host;
  #name;
  #state;
  /** @type {Observation | null} */
  #observation;
  /** @type {string | null} set after the fold, never before */
  #cursor;
  /** @type {import("./transports.js").Road | null} */
  #road = null;
  /** @type {Input[]} */
  #inputs = [];
  #busy = false;
  /** @type {unknown} */
  #timer = null;
  /** @type {number | null} */
  #timerAt = null;
  #savedAt = -Infinity;
  #unsaved = false;
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {Snapshot} */
  #snapshot;
  #forgetLifecycle = () => {};

  /** @param {SessionOptions} options */
  constructor(options) {
    this.#options = { ...options, baseUrl: options.baseUrl ?? ownOrigin() };
    this.#host = { ...defaultHost(), ...options.host };
    this.#name = `${this.#options.baseUrl} ${options.sessionId}`;
    const kept = options.storage?.load(this.#name) ?? null;
    this.#observation = kept?.session_id === options.sessionId ? kept : null;
    this.#cursor = this.#observation?.cursor ?? null;
    const transports = options.transports ?? availableTransports(this.#host);
    this.#state = connection({ transports, remembers: this.#cursor !== null });
    this.#snapshot = this.#look();
  }

  /** The state of the view, the same object until something changes. */
  get snapshot() {
    return this.#snapshot;
  }

  get sessionId() {
    return this.#options.sessionId;
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

  start() {
    this.#forgetLifecycle();
    this.#forgetLifecycle = this.#host.watchLifecycle({
      onWake: () => this.#put({ type: "wake" }),
      onRest: () => this.#save(),
    });
    this.#put({ type: "start" });
  }

  /** Asks again after the server's answer was final. */
  retry() {
    this.#put({ type: "retry" });
  }

  /** The user has moved on: the mark of a resynchronisation may go. */
  settle() {
    this.#put({ type: "settle" });
  }

  /** Stops watching. The session goes on without us: a disconnect cancels nothing. */
  close() {
    this.#put({ type: "stop" });
    this.#forgetLifecycle();
    this.#save();
  }

  /** @param {Input} input */
  #put(input) {
    this.#inputs.push(input);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#inputs.shift(); next; next = this.#inputs.shift()) this.#advance(next);
    } finally {
      this.#busy = false;
    }
    this.#arm();
    this.#tell();
  }

  /** @param {Input} input */
  #advance(input) {
    const [state, effects] = step(this.#state, input, this.#host.now(), this.#host.random());
    this.#state = state;
    for (const effect of effects) this.#perform(effect);
  }

  /** @param {import("./connection.js").Effect} effect */
  #perform(effect) {
    switch (effect.type) {
      case "open":
        return this.#open(effect.generation, effect.transport);
      case "close":
        this.#road?.close();
        this.#road = null;
        return;
      case "ping":
        return this.#road?.send({ type: "ping", id: String(effect.generation) });
      case "accept":
        return this.#accept(effect.frame);
      case "forget":
        this.#cursor = null;
        this.#unsaved = false;
        return this.#options.storage?.drop(this.#name);
    }
  }

  /**
   * @param {number} generation
   * @param {Transport} transport
   */
  #open(generation, transport) {
    const { baseUrl, sessionId, messages, headers } = this.#options;
    const url = address(baseUrl, sessionPath(sessionId, "/events"), { cursor: this.#cursor, messages });
    /** @type {import("./transports.js").Reports} */
    const reports = {
      onFrame: (frame) => this.#put({ type: "frame", generation, frame }),
      onAlive: () => this.#put({ type: "alive", generation }),
      onGarbled: () => this.#put({ type: "garbled", generation }),
      onEnd: (end) => this.#put({ type: "closed", generation, end }),
    };
    const { WebSocket, fetch } = this.#host;
    try {
      if (transport === "websocket" && WebSocket) this.#road = openWebSocket(asWebSocket(url), WebSocket, reports);
      else if (fetch) this.#road = openEventStream(url, fetch, headers ?? {}, reports);
      else throw new TypeError("neither WebSocket nor fetch is here");
    } catch {
      this.#put({ type: "closed", generation });
    }
  }

  /** @param {Frame} frame */
  #accept(frame) {
    try {
      this.#observation =
        frame.type === "event"
          ? fold(/** @type {Observation} */ (this.#observation), /** @type {any} */ (frame))
          : frame.observation;
      this.#cursor = /** @type {Observation} */ (this.#observation).cursor;
    } catch {
      return this.#put({ type: "garbled", generation: this.#state.generation });
    }
    this.#unsaved = true;
    if (this.#host.now() - this.#savedAt >= SAVE_EVERY_MS) this.#save();
    this.#options.onFrame?.(frame);
  }

  /** Stores state and cursor together, if there is anything new. */
  #save() {
    const { storage } = this.#options;
    if (!storage || !this.#unsaved || !this.#observation || this.#cursor === null) return;
    storage.save(this.#name, this.#observation);
    this.#savedAt = this.#host.now();
    this.#unsaved = false;
  }

  /** One timer, for the machine's nearest deadline. */
  #arm() {
    const at = deadlineOf(this.#state);
    if (at === this.#timerAt) return;
    if (this.#timer !== null) this.#host.clearTimer(this.#timer);
    this.#timerAt = at;
    this.#timer = at === null ? null : this.#host.setTimer(() => this.#ring(), Math.max(0, at - this.#host.now()));
  }

  #ring() {
    this.#timer = this.#timerAt = null;
    this.#put({ type: "tick" });
  }

  /** @returns {Snapshot} */
  #look() {
    const { resynchronised, problem } = this.#state;
    return { observation: this.#observation, phase: phaseOf(this.#state), resynchronised, problem };
  }

  #tell() {
    const [old, now] = [this.#snapshot, this.#look()];
    const keys = /** @type {Array<keyof Snapshot>} */ (Object.keys(now));
    if (keys.every((key) => old[key] === now[key])) return;
    this.#snapshot = now;
    this.#options.onChange?.(now);
    for (const listener of this.#listeners) listener();
  }
}

/**
 * @param {Pick<import("./host.js").Host, "WebSocket" | "fetch">} host
 * @returns {Transport[]}
 */
function availableTransports({ WebSocket, fetch }) {
  /** @type {Transport[]} */
  const available = [];
  if (WebSocket) available.push("websocket");
  if (fetch) available.push("sse");
  return available;
}
