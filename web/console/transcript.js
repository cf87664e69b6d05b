/**
 * The committed messages. Each is made once; a commit appends its own and touches nothing else.
 */

import { arrange } from "./dom.js";
import { messageElement } from "./message.js";

/** @typedef {import("../client/types.js").Message} Message */

/** How long assistive technology is kept from reading a replaced transcript aloud. */
const QUIET_MS = 300;

export class Transcript {
  #list;
  #pictureOf;
  /** @type {ReadonlyArray<Message> | null} null until the first snapshot */
  #shown = null;
  /** @type {Map<string, {message: Message, made: HTMLElement}>} */
  #entries = new Map();

  /**
   * @param {HTMLElement} list
   * @param {import("./message.js").PictureOf} pictureOf
   */
  constructor(list, pictureOf) {
    this.#list = list;
    this.#pictureOf = pictureOf;
  }

  /** @param {ReadonlyArray<Message>} messages */
  isShowing(messages) {
    return messages === this.#shown;
  }

  /** @param {ReadonlyArray<Message>} messages */
  show(messages) {
    if (this.isShowing(messages)) return;
    if (this.#shown && goesOnFrom(this.#shown, messages)) {
      this.#list.append(...messages.slice(this.#shown.length).map((message) => this.#elementOf(message)));
    } else {
      this.#replace(messages);
    }
    this.#shown = messages;
  }

  /**
   * Another cut, a reset or another frame. What is there already stays in its place, and is not read aloud again.
   *
   * @param {ReadonlyArray<Message>} messages
   */
  #replace(messages) {
    this.#list.setAttribute("aria-busy", "true");
    arrange(this.#list, messages.map((message) => this.#elementOf(message)));
    const kept = new Set(messages.map((message) => message.message_id));
    for (const id of this.#entries.keys()) if (!kept.has(id)) this.#entries.delete(id);
    setTimeout(() => this.#list.removeAttribute("aria-busy"), QUIET_MS);
  }

  clear() {
    this.#list.replaceChildren();
    this.#entries.clear();
    this.#shown = null;
  }

  /** @param {Message} message */
  #elementOf(message) {
    const known = this.#entries.get(message.message_id);
    if (known && sameMessage(known.message, message)) return known.made;
    const made = messageElement(message, this.#pictureOf);
    this.#entries.set(message.message_id, { message, made });
    return made;
  }
}

/**
 * @param {ReadonlyArray<Message>} before
 * @param {ReadonlyArray<Message>} after
 */
function goesOnFrom(before, after) {
  if (before.length === 0) return true;
  return after.length >= before.length && after[0] === before[0] && after[before.length - 1] === before.at(-1);
}

/**
 * @param {Message} one
 * @param {Message} other
 */
function sameMessage(one, other) {
  return one === other || (one.content === other.content && one.status === other.status && one.role === other.role);
}
