/**
 * One session, watched: performs what the connection machine asks for, and shows what is held of the session.
 */

import { address, asWebSocket, ownOrigin, sessionPath } from "./address.js";
import { connection, deadlineOf, phaseOf } from "./connection.js";
import { Driver } from "./driver.js";
import { Held } from "./held.js";
import { defaultHost } from "./host.js";
import { Shown } from "./shown.js";
import { step } from "./step.js";
import { availableTransports, openRoad } from "./transports.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Snapshot} Snapshot */
/** @typedef {import("./link.js").Transport} Transport */

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
  #held;
  #shown;
  /** @type {Driver<import("./connection.js").Connection, import("./connection.js").Input, import("./connection.js").Effect>} */
  #driver;
  /** @type {import("./transports.js").Road | null} */
  #road = null;
  #forgetLifecycle = () => {};

  /** @param {SessionOptions} options */
  constructor(options) {
    const baseUrl = options.baseUrl ?? ownOrigin();
    const { sessionId, storage, onChange } = options;
    this.#options = { ...options, baseUrl };
    this.#host = { ...defaultHost(), ...options.host };
    this.#held = new Held({ sessionId, name: `${baseUrl} ${sessionId}`, storage, now: this.#host.now });
    const transports = options.transports ?? availableTransports(this.#host);
    this.#driver = new Driver({
      state: connection({ transports, remembers: this.#held.cursor !== null }),
      step,
      deadlineOf,
      tick: /** @type {import("./connection.js").Input} */ ({ type: "tick" }),
      perform: (effect) => this.#perform(effect),
      settled: () => this.#shown.show(this.#look()),
      host: this.#host,
    });
    this.#shown = new Shown(this.#look());
    if (onChange) this.subscribe(() => onChange(this.snapshot));
  }

  /** The state of the view, the same object until something changes. */
  get snapshot() {
    return this.#shown.snapshot;
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
    return this.#shown.subscribe(listener);
  }

  start() {
    this.#forgetLifecycle();
    this.#forgetLifecycle = this.#host.watchLifecycle({
      onWake: () => this.#driver.put({ type: "wake" }),
      onRest: () => this.#held.save(),
    });
    this.#driver.put({ type: "start" });
  }

  /** Asks again after the server's answer was final. */
  retry() {
    this.#driver.put({ type: "retry" });
  }

  /** The user has moved on: the mark of a resynchronisation may go. */
  settle() {
    this.#driver.put({ type: "settle" });
  }

  /** Stops watching. The session goes on without us: a disconnect cancels nothing. */
  close() {
    this.#driver.put({ type: "stop" });
    this.#forgetLifecycle();
    this.#held.save();
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
        return this.#held.forget();
    }
  }

  /**
   * @param {number} generation
   * @param {Transport} transport
   */
  #open(generation, transport) {
    const { baseUrl, sessionId, messages, headers = {} } = this.#options;
    const url = address(baseUrl, sessionPath(sessionId, "/events"), { cursor: this.#held.cursor, messages });
    const put = this.#driver.put.bind(this.#driver);
    try {
      this.#road = openRoad(transport, this.#host, { socketUrl: asWebSocket(url), url, headers }, {
        onFrame: (frame) => put({ type: "frame", generation, frame }),
        onAlive: () => put({ type: "alive", generation }),
        onGarbled: () => put({ type: "garbled", generation }),
        onEnd: (end) => put({ type: "closed", generation, end }),
      });
    } catch {
      put({ type: "closed", generation });
    }
  }

  /** @param {Frame} frame */
  #accept(frame) {
    try {
      this.#held.take(frame);
    } catch {
      return this.#driver.put({ type: "garbled", generation: this.#driver.state.generation });
    }
    this.#options.onFrame?.(frame);
  }

  /** @returns {Snapshot} */
  #look() {
    const { resynchronised, problem } = this.#driver.state;
    return { observation: this.#held.observation, phase: phaseOf(this.#driver.state), resynchronised, problem };
  }
}
