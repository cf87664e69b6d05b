/**
 * What this page hears from the server: the list of sessions and the session it shows, on one connection. Browsers open few to one
 * server, and pages are many.
 *
 * A server, or something before it, may refuse that connection. Then each session gets one of its own, and the list is asked for.
 */

import { connectSession, openSessions, webStorageKeeper } from "../client/index.js";

const MESSAGES = 100;

/** @typedef {Pick<import("../client/session.js").SessionClient, "snapshot" | "retry" | "settle" | "close">} SessionStream */
/** @typedef {Pick<import("../client/sessions.js").WatchOptions, "onChange" | "onFrame">} Listeners */

export class Streams {
  #sessions = openSessions({ messages: MESSAGES });
  #storage = tabStorage();
  /** @type {import("../client/views.js").ListView} */
  list;

  /** @param {() => void} onList called when the list, or how this page is connected to it, has changed */
  constructor(onList) {
    this.list = this.#sessions.watchList(onList);
  }

  get isRefused() {
    return this.list.snapshot.phase === "unavailable";
  }

  /**
   * @param {string} sessionId
   * @param {Listeners} listeners
   * @returns {SessionStream}
   */
  open(sessionId, listeners) {
    const options = { storage: this.#storage, ...listeners };
    if (this.isRefused) return connectSession({ sessionId, messages: MESSAGES, ...options });
    return this.#sessions.watch(sessionId, options);
  }
}

/** @returns {import("../client/storage.js").Keeper | undefined} undefined where the browser forbids storage */
function tabStorage() {
  try {
    return webStorageKeeper(sessionStorage);
  } catch {
    return undefined;
  }
}
