/**
 * One entry of the transcript as an element; the running turn uses the same pieces, so that nothing jumps when it is committed.
 */

import { element, setText } from "./dom.js";
import { clock, pretty } from "./words.js";

/** @typedef {import("../client/types.js").Message} Message */

const STATUS_WORDS = new Map([
  ["cancelled", "stopped"],
  ["failed", "failed"],
]);

/**
 * @param {Message} message
 * @returns {HTMLElement}
 */
export function messageElement(message) {
  const { message_id, role, content, status, error, at_ms, turn_id } = message;
  const word = STATUS_WORDS.get(status ?? "");
  const made = entry(role, {
    class: "message",
    "data-message-id": message_id,
    "data-status": status,
    "data-turn-id": turn_id,
  });
  const about = made.querySelector("header");
  about?.append(element("time", { datetime: new Date(at_ms).toISOString() }, clock(at_ms)));
  if (word) about?.append(element("span", { class: "flag" }, word));
  const parts = message.parts ?? [];
  if (content && !parts.some((part) => part.type === "text")) made.append(textBlock(content));
  made.append(...parts.map(partElement));
  if (error) made.append(element("p", { class: "failure" }, error.message));
  return made;
}

/**
 * @param {string} role
 * @param {Record<string, string | undefined>} attributes
 * @returns {HTMLElement} with a header that names the role
 */
export function entry(role, attributes) {
  const about = element("header", {}, element("span", { class: "role" }, role));
  return element("article", { ...attributes, "data-role": role }, about);
}

/**
 * @param {Node | string} text
 * @param {string} [channel]
 */
export function textBlock(text, channel = "text") {
  return element("div", { class: channel === "text" ? "text" : `text ${channel}` }, text);
}

/** @typedef {{name: string, args: unknown, state: string, call_id?: string, output?: unknown}} Call */

/**
 * @param {Call} call
 * @returns {HTMLDetailsElement}
 */
export function toolElement(call) {
  const summary = element("summary", {}, element("span", { class: "tool-name" }, call.name), element("span", { class: "tool-state" }));
  const made = element("details", { class: "tool", "data-call-id": call.call_id }, summary);
  made.append(element("pre", { class: "tool-args" }, pretty(call.args)));
  showCallState(made, call);
  return made;
}

/**
 * @param {HTMLDetailsElement} made
 * @param {Call} call
 */
export function showCallState(made, { state, output }) {
  made.dataset.state = state;
  const word = made.querySelector(".tool-state");
  if (word) setText(word, state);
  if (state !== "running" && !made.querySelector(".tool-output")) {
    made.append(element("pre", { class: "tool-output" }, pretty(output)));
  }
}

/**
 * One part of a message, in its place. A kind that is not known here is shown by name: better a plain word than a hole.
 *
 * @param {Record<string, any>} part
 * @returns {HTMLElement}
 */
function partElement(part) {
  switch (part.type) {
    case "text":
    case "reasoning":
      return textBlock(String(part.text ?? ""), part.type);
    case "tool_call":
      return toolElement({ name: String(part.name), args: part.args, state: String(part.state), output: part.output });
    default:
      return element("p", { class: "part" }, `${part.type ?? "part"} ${part.id ?? part.name ?? ""}`.replaceAll("_", " ").trim());
  }
}
