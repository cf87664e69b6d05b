/**
 * What a turn asks and waits for: each request with its prompt, and a way to answer it. An answered one goes when the stream says
 * so, whoever answered it.
 */

import { arrange, byId, element } from "./dom.js";

/** @typedef {import("../client/types.js").Request} Request */

/** @typedef {(requestId: string, answer: unknown) => Promise<boolean>} Answer resolves to whether the answer was taken */

/** @type {ReadonlyArray<[word: string, answer: unknown]>} */
const APPROVAL = [
  ["Approve", true],
  ["Decline", false],
];

export class RequestsView {
  #section = byId("requests", HTMLElement);
  #list = byId("requests-list", HTMLElement);
  #answer;
  /** @type {Map<string, HTMLElement>} kept while a request is open: what was typed must not be lost to a repaint */
  #rows = new Map();
  /** @type {ReadonlyArray<Request> | null} */
  #shown = null;

  /** @param {Answer} answer */
  constructor(answer) {
    this.#answer = answer;
  }

  /** @param {ReadonlyArray<Request>} requests */
  show(requests) {
    if (requests === this.#shown) return;
    this.#shown = requests;
    const rows = new Map(requests.map((request) => [request.request_id, this.#rows.get(request.request_id) ?? this.#make(request)]));
    this.#rows = rows;
    arrange(this.#list, [...rows.values()]);
    this.#section.hidden = rows.size === 0;
  }

  /** @param {Request} request */
  #make({ request_id, kind, prompt, options }) {
    const form = element("form", { class: "answer", "aria-label": prompt });
    const made = element("li", { "data-request-id": request_id, "data-kind": kind }, element("p", { class: "prompt" }, prompt), form);
    const choices = choicesOf(kind, options);
    const fields = choices ? choices.map(([word]) => element("button", { type: "submit" }, word)) : textFields();
    form.append(...fields);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answer = choices ? choices[fields.findIndex((field) => field === event.submitter)]?.[1] : typed(form);
      if (answer === undefined) return;
      for (const field of fields) field.disabled = true;
      if (await this.#answer(request_id, answer)) return;
      for (const field of fields) field.disabled = false;
    });
    return made;
  }
}

/**
 * What can be chosen, none when anything may be said.
 *
 * @param {string} kind
 * @param {unknown} options
 * @returns {ReadonlyArray<[word: string, answer: unknown]> | null}
 */
export function choicesOf(kind, options) {
  if (Array.isArray(options) && options.length > 0) {
    return options.map((option) => [typeof option === "string" && option !== "" ? option : JSON.stringify(option), option]);
  }
  return kind === "approval" ? APPROVAL : null;
}

/** @returns {Array<HTMLInputElement | HTMLButtonElement>} */
function textFields() {
  const input = element("input", { name: "answer", "aria-label": "Answer", autocomplete: "off", enterkeyhint: "send" });
  return [input, element("button", { type: "submit", class: "primary" }, "Answer")];
}

/** @param {HTMLFormElement} form */
function typed(form) {
  return form.querySelector("input")?.value;
}
