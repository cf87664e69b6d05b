/**
 * The running turn. It grows by the letters that are new and is gone when the turn is committed, in the same paint in which its
 * messages appear.
 *
 * Text and tool calls stand in the order in which they came to this page. After a reload that order is not known any more; text
 * comes first then.
 */

import { element, setText } from "./dom.js";
import { entry, saidElements, showCallState, textBlock, toolElement } from "./message.js";

/** @typedef {import("../client/types.js").Live} Live */
/** @typedef {import("../client/types.js").Segment} Segment */
/** @typedef {import("../client/types.js").ToolCall} ToolCall */

export class LiveTurn {
  #parent;
  #pictureOf;
  /** @type {TurnView | null} */
  #view = null;

  /**
   * @param {HTMLElement} parent
   * @param {import("./message.js").PictureOf} pictureOf
   */
  constructor(parent, pictureOf) {
    this.#parent = parent;
    this.#pictureOf = pictureOf;
  }

  /** @param {Live | null} live */
  show(live) {
    if (this.#view && !(live && this.#view.goesOnAs(live))) {
      this.#view.root.remove();
      this.#view = null;
    }
    if (!live) return;
    if (!this.#view) {
      this.#view = new TurnView(live, this.#pictureOf);
      this.#parent.append(this.#view.root);
    }
    this.#view.show(live);
  }
}

/** One attempt of one turn, as long as nothing of it is taken back. */
class TurnView {
  #turn;
  #pictureOf;
  #answer = entry("assistant", { class: "provisional" });
  #failure = element("p", { class: "failure", hidden: true });
  #inputs = 0;
  /** @type {Array<{segment: Segment, text: Text}>} */
  #segments = [];
  /** @type {Array<{call: ToolCall, made: HTMLDetailsElement}>} */
  #calls = [];

  /**
   * @param {Live} live
   * @param {import("./message.js").PictureOf} pictureOf
   */
  constructor({ turn_id, attempt }, pictureOf) {
    this.#pictureOf = pictureOf;
    this.#turn = `${turn_id} ${attempt}`;
    const word = attempt > 1 ? `attempt ${attempt}` : "working";
    this.#answer.querySelector("header")?.append(element("span", { class: "flag working" }, word));
    this.#answer.append(this.#failure);
    this.root = element("div", { class: "live", "aria-live": "off", "data-turn-id": turn_id, "data-attempt": attempt }, this.#answer);
  }

  /**
   * Whether what is shown is a beginning of `live`. After a retraction, or in another attempt, it is not.
   *
   * @param {Live} live
   */
  goesOnAs(live) {
    return (
      this.#turn === `${live.turn_id} ${live.attempt}` &&
      live.input.length >= this.#inputs &&
      live.segments.length >= this.#segments.length &&
      live.tool_calls.length >= this.#calls.length &&
      this.#segments.every(({ segment }, index) => growsTo(segment, live.segments[index])) &&
      this.#calls.every(({ call }, index) => call.call_id === live.tool_calls[index].call_id)
    );
  }

  /** @param {Live} live */
  show(live) {
    for (const input of live.input.slice(this.#inputs)) {
      const said = entry(input.role, { class: "provisional" });
      said.append(...saidElements(input, this.#pictureOf));
      this.#answer.before(said);
    }
    this.#inputs = live.input.length;
    live.segments.forEach((segment, index) => this.#showSegment(segment, index));
    live.tool_calls.forEach((call, index) => this.#showCall(call, index));
    setText(this.#failure, live.error ?? "");
    this.#failure.hidden = !live.error;
  }

  /**
   * @param {Segment} segment
   * @param {number} index
   */
  #showSegment(segment, index) {
    const known = this.#segments[index];
    if (known?.segment === segment) return;
    if (known) {
      known.text.appendData(segment.text.slice(known.segment.text.length));
      known.segment = segment;
      return;
    }
    const text = document.createTextNode(segment.text);
    this.#failure.before(textBlock(text, segment.channel));
    this.#segments.push({ segment, text });
  }

  /**
   * @param {ToolCall} call
   * @param {number} index
   */
  #showCall(call, index) {
    const known = this.#calls[index];
    if (known?.call === call) return;
    if (known) {
      showCallState(known.made, call);
      known.call = call;
      return;
    }
    const made = toolElement(call);
    this.#failure.before(made);
    this.#calls.push({ call, made });
  }
}

/**
 * @param {Segment} shown
 * @param {Segment} segment
 */
function growsTo(shown, segment) {
  if (shown === segment) return true;
  return (
    shown.correlation_id === segment.correlation_id &&
    shown.channel === segment.channel &&
    segment.text.startsWith(shown.text)
  );
}
