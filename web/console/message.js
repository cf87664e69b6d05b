/**
 * One entry of the transcript as an element; the running turn uses the same pieces, so that nothing jumps when it is committed.
 */

import { element, setText } from "./dom.js";
import { clock, pretty } from "./words.js";

/** @typedef {import("../client/types.js").Message} Message */

/** @typedef {(attachmentId: string) => string} PictureOf the address of a picture of the session that is shown */

const STATUS_WORDS = new Map([
  ["cancelled", "stopped"],
  ["failed", "failed"],
]);

/**
 * @param {Message} message
 * @param {PictureOf} pictureOf
 * @returns {HTMLElement}
 */
export function messageElement(message, pictureOf) {
  const { message_id, role, status, error, at_ms, turn_id } = message;
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
  made.append(...saidElements(message, pictureOf));
  if (error) made.append(element("p", { class: "failure" }, error.message));
  return made;
}

/**
 * What a message says and shows, part by part; its plain text when it has none.
 *
 * @param {{content: string, parts?: Array<Record<string, any>>}} message
 * @param {PictureOf} pictureOf
 * @returns {HTMLElement[]}
 */
export function saidElements({ content, parts = [] }, pictureOf) {
  const made = parts.map((part) => partElement(part, pictureOf));
  if (content && !parts.some((part) => part.type === "text")) made.unshift(textBlock(content));
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
 * @param {PictureOf} pictureOf
 * @returns {HTMLElement}
 */
function partElement(part, pictureOf) {
  switch (part.type) {
    case "text":
    case "reasoning":
      return textBlock(String(part.text ?? ""), part.type);
    case "tool_call":
      return toolElement({ name: String(part.name), args: part.args, state: String(part.state), output: part.output });
    case "image":
      return pictureElement(String(part.attachment?.attachment_id ?? ""), pictureOf);
    default:
      return element("p", { class: "part" }, `${part.type ?? "part"} ${part.id ?? part.name ?? ""}`.replaceAll("_", " ").trim());
  }
}

/**
 * A picture, in its own size in another tab.
 *
 * @param {string} attachmentId
 * @param {PictureOf} pictureOf
 */
function pictureElement(attachmentId, pictureOf) {
  const src = pictureOf(attachmentId);
  const picture = element("img", { src, alt: "picture", loading: "lazy" });
  return element("a", { class: "picture", href: src, target: "_blank", rel: "noopener" }, picture);
}
