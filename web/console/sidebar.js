/**
 * The list of sessions. It is told what changes; where it is not, it asks: gently, while somebody can see it, and at once after what
 * was done here.
 */

import { arrange, byId, element, setText } from "./dom.js";
import { hashOf } from "./route.js";
import { ago, firstLine, shortId } from "./words.js";

/** @typedef {import("../client/types.js").SessionEntry} SessionEntry */

const FIRST_MS = 1_000;
const EVERY_MS = 5_000;
const LIMIT = 100;

export class Sidebar {
  #api;
  #onList;
  #list = byId("sessions", HTMLElement);
  #none = byId("no-sessions", HTMLElement);
  /** @type {Map<string, HTMLElement>} */
  #items = new Map();
  /** @type {ReadonlyArray<SessionEntry>} */
  #entries = [];
  #timer;
  #asked = 0;
  #isTold = false;

  /**
   * @param {import("../client/api.js").Api} api
   * @param {() => void} onList called when a list has come, also an unchanged one, and now and then, as times grow old
   */
  constructor(api, onList) {
    this.#api = api;
    this.#onList = onList;
    this.#timer = setTimeout(() => this.#goOn(), FIRST_MS);
    document.addEventListener("visibilitychange", () => this.#goOn());
  }

  /** False until the first list came. */
  known = false;

  get count() {
    return this.#entries.length;
  }

  /** @param {string | null} sessionId */
  entryOf(sessionId) {
    return this.#entries.find((entry) => entry.session_id === sessionId);
  }

  /**
   * @param {string | null} sessionId
   * @returns {Array<{id: string, title: string}>} the sessions that are not this one, newest first
   */
  others(sessionId) {
    return this.#entries
      .filter((entry) => entry.session_id !== sessionId)
      .map((entry) => ({ id: entry.session_id, title: firstLine(entry.title || "") || shortId(entry.session_id) }));
  }

  /**
   * Takes what is told of the list.
   *
   * @param {import("../client/types.js").ListSnapshot} list
   */
  tell({ sessions, phase }) {
    const wasTold = this.#isTold;
    this.#isTold = phase === "live";
    if (this.#isTold && sessions) {
      this.#asked += 1;
      this.#entries = sessions;
      this.known = true;
      this.#onList();
    } else if (wasTold) {
      this.#goOnLater();
    }
  }

  #goOn() {
    if (document.hidden) return;
    this.refresh();
    if (this.#isTold) this.#onList();
  }

  #goOnLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#goOn(), EVERY_MS);
  }

  /**
   * Asks now, unless it is told anyway, and again after a few seconds. A failure is no news: the connection mark tells about the
   * server.
   */
  async refresh() {
    this.#goOnLater();
    if (this.#isTold) return;
    const asked = (this.#asked += 1);
    try {
      const { sessions } = await this.#api.listSessions({ limit: LIMIT });
      if (asked !== this.#asked) return;
      this.#entries = sessions;
      this.known = true;
      this.#onList();
    } catch {
      // It is asked again.
    }
  }

  /**
   * @param {string | null} current
   * @param {import("../client/types.js").Observation | null} observation of the current session, fresher than the list
   * @param {string} title of the current session
   */
  show(current, observation, title) {
    const now = Date.now();
    const wanted = this.#entries.map((entry) => {
      const made = this.#items.get(entry.session_id) ?? this.#make(entry.session_id);
      const isCurrent = entry.session_id === current;
      fill(made, isCurrent && observation ? { ...entry, title, ...fresher(observation) } : entry, isCurrent, now);
      return made;
    });
    arrange(this.#list, wanted);
    this.#none.hidden = !this.known || wanted.length > 0;
  }

  /** @param {string} sessionId */
  #make(sessionId) {
    const link = element("a", { href: hashOf(sessionId) }, element("span", { class: "name" }), element("span", { class: "when" }));
    const made = element("li", { "data-session-id": sessionId }, link);
    this.#items.set(sessionId, made);
    return made;
  }
}

/** @param {import("../client/types.js").Observation} observation */
function fresher({ status, queue }) {
  return { status, pending: queue.filter((batch) => batch.state === "pending").length };
}

/**
 * @param {HTMLElement} item
 * @param {SessionEntry} entry
 * @param {boolean} isCurrent
 * @param {number} now
 */
function fill(item, { session_id, title, status, pending, updated_at_ms }, isCurrent, now) {
  const [name, when] = item.querySelectorAll("span");
  const waiting = pending > 0 ? ` · ${pending} waiting` : "";
  setText(name, title ? firstLine(title) : shortId(session_id));
  setText(when, (status === "idle" ? ago(updated_at_ms, now) : status) + waiting);
  item.dataset.status = status;
  if (isCurrent) item.firstElementChild?.setAttribute("aria-current", "page");
  else item.firstElementChild?.removeAttribute("aria-current");
}
