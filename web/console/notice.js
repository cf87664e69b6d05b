/**
 * The last error, in words, until it is dismissed or something new is begun. A connection that is lost and comes back is none.
 */

import { byId, setText } from "./dom.js";

const text = byId("error", HTMLElement);
const dismiss = byId("dismiss", HTMLButtonElement);
const retry = byId("retry", HTMLButtonElement);

/** @type {(() => void) | null} */
let onRetry = null;

dismiss.addEventListener("click", () => clearError());
retry.addEventListener("click", () => {
  const act = onRetry;
  clearError();
  act?.();
});

/**
 * @param {string} sentence
 * @param {() => void} [again] what trying again would do
 */
export function showError(sentence, again) {
  setText(text, sentence);
  onRetry = again ?? null;
  dismiss.hidden = false;
  retry.hidden = !again;
}

export function clearError() {
  setText(text, "");
  onRetry = null;
  dismiss.hidden = true;
  retry.hidden = true;
}
