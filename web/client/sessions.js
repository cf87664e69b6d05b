/**
 * Many sessions, watched on one connection: performs what the machine of `observing.js` asks for, and lets the views know.
 */

import { address, asWebSocket, ownOrigin } from "./address.js";
import { Driver } from "./driver.js";
import { Held } from "./held.js";
import { defaultHost } from "./host.js";
import { observe } from "./observe.js";
import { INDEX, observing, observingDeadline, standing } from "./observing.js";
import { availableTransports, openRoad } from "./transports.js";
import { ListView, SessionView } from "./views.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").Snapshot} Snapshot */
/** @typedef {import("./types.js").ListSnapshot} ListSnapshot */
/** @typedef {import("./link.js").Transport} Transport */
/** @typedef {import("./observing.js").Observing} Observing */
/** @typedef {import("./observing.js").Input} Input */
/** @typedef {import("./observing.js").Effect} Effect */

/**
 * @typedef {object} SessionsOptions
 * @property {string} [baseUrl] the page's own origin unless given
 * @property {number} [messages] how many of the newest messages a snapshot brings
 * @property {ReadonlyArray<Transport>} [transports]
 * @property {Record<string, string>} [headers] for server-sent events; a browser's WebSocket cannot carry any
 * @property {Partial<import("./host.js").Host>} [host]
 */

/**
 * @typedef {object} WatchOptions
 * @property {import("./storage.js").Keeper} [storage] where to keep the state over a reload; without it, nowhere
 * @property {import("./types.js").Observation} [observation] what is known already: it is shown at once and resumed from
 * @property {(snapshot: Snapshot) => void} [onChange]
 * @property {(frame: Frame) => void} [onFrame] every frame that was folded, after it was
 */

/**
 * One connection for as many sessions as are wanted. It is there while something is watched.
 *
 * @param {SessionsOptions} [options]
 * @returns {Sessions}
 */
export function openSessions(options = {}) {
  return new Sessions(options);
}

export class Sessions {
  #options;
  #host;
  /** @type {Driver<Observing, Input, Effect>} */
  #driver;
  /** @type {import("./transports.js").Road | null} */
  #road = null;
  /** @type {Map<string, SessionView>} */
  #views = new Map();
  /** @type {Map<string, Held>} */
  #held = new Map();
  /** @type {ListView | null} */
  #list = null;
  /** @type {Set<string>} whose frames were taken since the views were told */
  #touched = new Set();
  /** @type {Observing} as it was when the views were told */
  #told;
  #forgetLifecycle;

  /** @param {SessionsOptions} options */
  constructor(options) {
    this.#options = { ...options, baseUrl: options.baseUrl ?? ownOrigin() };
    this.#host = { ...defaultHost(), ...options.host };
    this.#told = observing({ transports: options.transports ?? availableTransports(this.#host) });
    this.#driver = new Driver({
      state: this.#told,
      step: observe,
      deadlineOf: observingDeadline,
      tick: /** @type {Input} */ ({ type: "tick" }),
      perform: (effect) => this.#perform(effect),
      settled: () => this.#tell(),
      host: this.#host,
    });
    this.#forgetLifecycle = this.#host.watchLifecycle({
      onWake: () => this.#driver.put({ type: "wake" }),
      onRest: () => this.#save(),
    });
  }

  /**
   * Watches a session. Asked twice, it answers with the same view.
   *
   * @param {string} sessionId
   * @param {WatchOptions} [options] `storage` and `observation` count the first time
   * @returns {SessionView}
   */
  watch(sessionId, { storage, observation, onChange, onFrame } = {}) {
    if (sessionId === INDEX) throw new TypeError("that is the list of sessions: use watchList");
    const known = this.#views.get(sessionId);
    const view = known ?? this.#added(sessionId, { storage, observation });
    if (onFrame) view.onFrame(onFrame);
    if (onChange) view.subscribe(() => onChange(view.snapshot));
    if (!known) this.#driver.put({ type: "watch", sessionId, remembers: this.#held.get(sessionId)?.cursor != null });
    return view;
  }

  /**
   * Watches a session no more. Its view stays as it is; the session goes on without us.
   *
   * @param {string} sessionId
   */
  unwatch(sessionId) {
    if (!this.#views.has(sessionId)) return;
    this.#held.get(sessionId)?.save();
    this.#held.delete(sessionId);
    this.#views.delete(sessionId);
    this.#driver.put({ type: "unwatch", sessionId });
  }

  /**
   * Watches the list of sessions. Asked twice, it answers with the same view.
   *
   * @param {(snapshot: ListSnapshot) => void} [listener] called after each change
   * @returns {ListView}
   */
  watchList(listener) {
    const view = this.#list ?? new ListView(this.#asks(INDEX, () => this.#unwatchList(view)));
    if (listener) view.subscribe(() => listener(view.snapshot));
    if (this.#list) return view;
    this.#list = view;
    this.#driver.put({ type: "watch", sessionId: INDEX, remembers: false });
    return view;
  }

  /** Watches nothing any more. The sessions go on without us. */
  close() {
    this.#save();
    this.#views.clear();
    this.#held.clear();
    this.#list = null;
    this.#driver.put({ type: "stop" });
    this.#forgetLifecycle();
  }

  /** @param {ListView} view */
  #unwatchList(view) {
    if (this.#list !== view) return;
    this.#list = null;
    this.#driver.put({ type: "unwatch", sessionId: INDEX });
  }

  /**
   * @param {string} sessionId
   * @param {Pick<WatchOptions, "storage" | "observation">} options
   */
  #added(sessionId, { storage, observation }) {
    const name = `${this.#options.baseUrl} ${sessionId}`;
    const held = new Held({ sessionId, name, storage, observation, now: this.#host.now });
    const isCurrent = () => this.#views.get(sessionId) === view;
    const view = new SessionView(sessionId, held, this.#asks(sessionId, () => isCurrent() && this.unwatch(sessionId)));
    this.#held.set(sessionId, held);
    this.#views.set(sessionId, view);
    return view;
  }

  /**
   * @param {string} sessionId
   * @param {() => void} close
   * @returns {import("./views.js").Asks}
   */
  #asks(sessionId, close) {
    const put = (/** @type {'retry' | 'settle'} */ type) => this.#driver.put({ type, sessionId });
    return { retry: () => put("retry"), settle: () => put("settle"), close };
  }

  #save() {
    for (const held of this.#held.values()) held.save();
  }

  /** @param {Effect} effect */
  #perform(effect) {
    switch (effect.type) {
      case "open":
        return this.#open(effect.generation, effect.transport, effect.sessions);
      case "close":
        this.#road?.close();
        this.#road = null;
        return;
      case "ping":
        return this.#road?.send({ type: "ping", id: String(effect.generation) });
      case "subscribe":
        return this.#subscribe(effect.sessionId, effect.question);
      case "unsubscribe":
        this.#road?.send({ type: "unsubscribe", session_id: effect.sessionId, id: effect.question });
        return this.#road?.send({ type: "ping", id: effect.question });
      case "accept":
        return this.#accept(effect.sessionId, effect.frame);
      case "forget":
        return this.#held.get(effect.sessionId)?.forget();
    }
  }

  /**
   * @param {number} generation
   * @param {Transport} transport
   * @param {string[]} named the sessions that a road of one direction is to bring
   */
  #open(generation, transport, named) {
    const { baseUrl, messages, headers = {} } = this.#options;
    const url = address(baseUrl, "/v1/observe");
    const sessions = Object.fromEntries(named.map((sessionId) => [sessionId, this.#cursorOf(sessionId)]));
    const put = this.#driver.put.bind(this.#driver);
    try {
      this.#road = openRoad(transport, this.#host, { socketUrl: asWebSocket(url), url, headers, body: { sessions, messages } }, {
        onOpen: () => put({ type: "opened", generation }),
        onFrame: (frame) => put({ type: "frame", generation, frame }),
        onAlive: () => put({ type: "alive", generation }),
        onGarbled: () => put({ type: "garbled", generation }),
        onEnd: (end) => put({ type: "closed", generation, end }),
      });
    } catch {
      put({ type: "closed", generation });
    }
  }

  /**
   * @param {string} sessionId
   * @param {number} question
   */
  #subscribe(sessionId, question) {
    const from = sessionId === INDEX ? {} : { cursor: this.#cursorOf(sessionId), messages: this.#options.messages };
    this.#road?.send({ type: "subscribe", session_id: sessionId, ...from, id: question });
  }

  /** @param {string} sessionId */
  #cursorOf(sessionId) {
    return this.#held.get(sessionId)?.cursor ?? null;
  }

  /**
   * @param {string} sessionId
   * @param {Frame} frame
   */
  #accept(sessionId, frame) {
    const view = this.#viewOf(sessionId);
    try {
      view?.take(frame);
    } catch {
      return this.#driver.put({ type: "unfit", sessionId });
    }
    this.#touched.add(sessionId);
    view?.told(frame);
  }

  /** @param {string} sessionId */
  #viewOf(sessionId) {
    return sessionId === INDEX ? this.#list : this.#views.get(sessionId);
  }

  /** Lets the views know: those whose frames came or who stand elsewhere now, or all of them when the road does. */
  #tell() {
    const { state } = this.#driver;
    const [told, touched] = [this.#told, this.#touched];
    const isSameRoad = told.stage === state.stage && told.refusal === state.refusal;
    if (isSameRoad && told.sessions === state.sessions && touched.size === 0) return;
    this.#told = state;
    this.#touched = new Set();
    const all = isSameRoad && told.sessions === state.sessions ? touched : [INDEX, ...this.#views.keys()];
    for (const sessionId of all) {
      const isSame = isSameRoad && !touched.has(sessionId) && told.sessions.get(sessionId) === state.sessions.get(sessionId);
      if (!isSame) this.#viewOf(sessionId)?.show(standing(this.#driver.state, sessionId));
    }
  }
}
