/**
 * What goes on beside the turns: processes and background tasks that the session sees, with how far they have come, their log,
 * and ways to stop them and to hand them over. One whose log is open stays when it has ended, until its log is closed.
 */

import { arrange, byId, element, setText } from "./dom.js";
import { Tail } from "./tail.js";
import { clock, compact, sentenceOf } from "./words.js";

/** @typedef {import("../client/types.js").Summary} Summary */
/** @typedef {{id: string, title: string}} Target a session that work can be handed over to */

/** @typedef {"process" | "task"} Sort */

/**
 * @typedef {object} WorkActions
 * @property {(sort: Sort, id: string) => Promise<unknown>} cancel
 * @property {(sort: Sort, id: string, toSessionId: string) => Promise<unknown>} handOver
 * @property {() => Target[]} targets
 */

/**
 * @typedef {object} Item
 * @property {Sort} sort
 * @property {string} id
 * @property {string} name
 * @property {string} kind
 * @property {string} state
 * @property {unknown} progress
 */

/** What processes log for themselves. */
const UNSAID = new Set(["process.noted"]);

const STOPPING = "stopping";

export class WorkView {
  #section = byId("work", HTMLElement);
  #list = byId("work-list", HTMLElement);
  #api;
  #actions;
  #onChange;
  /** @type {Map<string, Row>} */
  #rows = new Map();
  /** @type {unknown[]} */
  #shown = [];

  /**
   * @param {import("./tail.js").ProcessApi} api
   * @param {WorkActions} actions
   * @param {() => void} onChange asks for a paint
   */
  constructor(api, actions, onChange) {
    this.#api = api;
    this.#actions = actions;
    this.#onChange = onChange;
  }

  /**
   * @param {ReadonlyArray<Summary>} processes
   * @param {ReadonlyArray<Summary>} tasks
   */
  show(processes, tasks) {
    const now = [processes, tasks, ...[...this.#rows.values()].map((row) => row.tail?.changes)];
    if (now.length === this.#shown.length && now.every((part, index) => part === this.#shown[index])) return;
    this.#shown = now;
    /** @type {Map<string, Item | null>} */
    const items = new Map([...processes.map(processItem), ...tasks.map(taskItem)].map((item) => [`${item.sort} ${item.id}`, item]));
    for (const [key, row] of this.#rows) if (!items.has(key) && row.tail) items.set(key, null);
    const rows = new Map([...items].map(([key, item]) => [key, this.#rows.get(key) ?? this.#make(key, item)]));
    for (const [key, row] of rows) row?.show(items.get(key) ?? null);
    for (const [key, row] of this.#rows) if (!rows.has(key)) row.close();
    this.#rows = /** @type {Map<string, Row>} */ (rows);
    arrange(this.#list, [...this.#rows.values()].map((row) => row.made));
    this.#section.hidden = this.#rows.size === 0;
  }

  /** Another session is shown: nothing stays. */
  clear() {
    for (const row of this.#rows.values()) row.close();
    this.#rows.clear();
    this.show([], []);
  }

  /**
   * @param {string} key
   * @param {Item | null} item
   */
  #make(key, item) {
    if (!item) throw new Error(`${key} has no row`);
    return new Row(item, this.#api, this.#actions, this.#onChange);
  }
}

/** One process or task. Its elements stay, so that focus and what was chosen outlive every repaint. */
class Row {
  #item;
  #api;
  #actions;
  #onChange;
  #name = element("span", { class: "preview" });
  #bar = element("progress", { hidden: true });
  #far = element("span", { class: "far" });
  #flag = element("span", { class: "flag" });
  #stop;
  #log;
  #hand;
  #form = element("form", { class: "hand-over", hidden: true });
  #lines = element("ol", { class: "log", hidden: true, tabindex: 0, "aria-label": "Log" });
  #isStopping = false;
  /** @type {Tail | null} */
  tail = null;

  /**
   * @param {Item} item
   * @param {import("./tail.js").ProcessApi} api
   * @param {WorkActions} actions
   * @param {() => void} onChange
   */
  constructor(item, api, actions, onChange) {
    this.#item = item;
    this.#api = api;
    this.#actions = actions;
    this.#onChange = onChange;
    this.#stop = button("Stop", item, () => this.#cancel());
    this.#log = button("Log", item, () => this.#toggleLog());
    this.#hand = button("Hand over", item, () => this.#offer());
    this.#log.hidden = item.sort === "task";
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#handOver();
    });
    const buttons = element("span", { class: "buttons" }, this.#log, this.#hand, this.#stop);
    const line = element("div", { class: "line" }, this.#name, this.#bar, this.#far, this.#flag, buttons);
    const named = { [`data-${item.sort}-id`]: item.id, "data-kind": item.kind };
    this.made = element("li", named, line, this.#form, this.#lines);
  }

  /** @param {Item | null} item null when it is not seen any more and only its log is looked at */
  show(item) {
    if (item) this.#item = item;
    const isOver = item === null || this.tail?.ended != null;
    const state = (isOver ? (this.tail?.ended ?? "ended") : this.#isStopping ? STOPPING : this.#item.state);
    this.made.dataset.state = state;
    setText(this.#name, this.#item.name);
    setText(this.#flag, state);
    this.#showProgress(this.#item.progress);
    this.#stop.hidden = this.#hand.hidden = isOver;
    this.#stop.disabled = state === STOPPING;
    if (isOver) this.#form.hidden = true;
    this.#showLog();
  }

  close() {
    this.tail?.close();
    this.tail = null;
  }

  /** @param {unknown} progress */
  #showProgress(progress) {
    const part = portionOf(progress);
    this.#bar.hidden = part === null;
    if (part) Object.assign(this.#bar, { max: part.total, value: part.done });
    setText(this.#far, part ? `${part.done} of ${part.total}` : progress == null ? "" : compact(progress));
  }

  #showLog() {
    const { tail } = this;
    this.#lines.hidden = tail === null;
    this.#log.setAttribute("aria-expanded", String(tail !== null));
    setText(this.#log, tail ? "Close log" : "Log");
    if (!tail) return this.#lines.replaceChildren();
    const isAtEnd = this.#lines.scrollTop + this.#lines.clientHeight >= this.#lines.scrollHeight - 8;
    const known = new Map([...this.#lines.children].map((line) => [line.getAttribute("data-sequence"), line]));
    const said = tail.events.filter((event) => !UNSAID.has(event.event_type));
    const lines = said.map((event) => known.get(String(event.sequence)) ?? logLine(event));
    if (tail.error) lines.push(element("li", { class: "failure" }, sentenceOf(tail.error)));
    else if (lines.length === 0) lines.push(element("li", { class: "hint" }, tail.ended ? "It said nothing." : "Nothing yet."));
    arrange(this.#lines, lines);
    if (isAtEnd) this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  #toggleLog() {
    if (this.tail) this.close();
    else this.tail = new Tail(this.#api, this.#item.id, this.#onChange);
    this.#showLog();
    this.#onChange();
  }

  async #cancel() {
    this.#isStopping = this.#stop.disabled = true;
    const done = await this.#actions.cancel(this.#item.sort, this.#item.id);
    if (done === undefined) this.#isStopping = this.#stop.disabled = false;
  }

  #offer() {
    this.#form.hidden = !this.#form.hidden;
    this.#hand.setAttribute("aria-expanded", String(!this.#form.hidden));
    if (this.#form.hidden) return;
    const targets = this.#actions.targets();
    if (targets.length === 0) {
      this.#form.replaceChildren(element("span", { class: "hint" }, "There is no other session."));
      return;
    }
    const options = targets.map(({ id, title }) => element("option", { value: id }, title));
    const select = element("select", { "aria-label": `Hand ${this.#item.name} over to` }, ...options);
    this.#form.replaceChildren(element("span", {}, "to"), select, element("button", { type: "submit", class: "primary" }, "Hand over"));
    select.focus();
  }

  async #handOver() {
    const chosen = this.#form.querySelector("select")?.value;
    if (!chosen) return;
    this.#form.hidden = true;
    await this.#actions.handOver(this.#item.sort, this.#item.id, chosen);
  }
}

/**
 * @param {string} word
 * @param {Item} item
 * @param {() => void} act
 */
function button(word, item, act) {
  const made = element("button", { type: "button", class: "quiet", "aria-label": `${word}: ${item.name}` }, word);
  made.addEventListener("click", act);
  return made;
}

/** @param {import("../client/types.js").ProcessEvent} event */
function logLine(event) {
  const [word, text] = saidIn(event);
  return element(
    "li",
    { "data-sequence": event.sequence },
    element("time", { datetime: new Date(event.occurred_at_ms).toISOString() }, clock(event.occurred_at_ms)),
    element("span", { class: "event-type" }, word),
    element("span", { class: "payload" }, text),
  );
}

/**
 * What a line of the log says: of a command, what it wrote, as it wrote it.
 *
 * @param {Pick<import("../client/types.js").ProcessEvent, "event_type" | "payload">} event
 * @returns {[word: string, text: string]}
 */
export function saidIn({ event_type, payload }) {
  const isOutput = event_type === "output" && typeof payload?.text === "string" && typeof payload?.stream === "string";
  return isOutput ? [payload.stream, payload.text.replace(/\n$/, "")] : [event_type, compact(payload)];
}

/**
 * How much of how much, when it is told so.
 *
 * @param {unknown} progress
 * @returns {{done: number, total: number} | null}
 */
export function portionOf(progress) {
  const { done, total } = /** @type {Record<string, unknown>} */ (progress ?? {});
  const isPortion = typeof done === "number" && typeof total === "number" && total > 0 && done >= 0 && done <= total;
  return isPortion ? { done, total } : null;
}

/**
 * @param {Summary} summary
 * @returns {Item}
 */
export function processItem({ process_id, status, kind, label, progress, cancel_requested }) {
  const state = cancel_requested && status === "running" ? STOPPING : status;
  return { sort: "process", id: process_id, name: label, kind, state, progress };
}

/**
 * @param {Summary} summary
 * @returns {Item}
 */
export function taskItem({ task_id, kind, state, progress }) {
  return { sort: "task", id: task_id, name: task_id, kind, state: state === "cancel_requested" ? STOPPING : state, progress };
}
