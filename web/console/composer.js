/**
 * The input box. Enter sends, Shift+Enter begins a line, and an input method that is still composing gets its Enter.
 */

import { byId } from "./dom.js";

/**
 * @param {(text: string) => void} onSend
 */
export function composer(onSend) {
  const form = byId("composer", HTMLFormElement);
  const input = byId("input", HTMLTextAreaElement);
  const send = byId("send", HTMLButtonElement);

  const fit = () => {
    send.disabled = input.value.trim() === "";
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
  };
  input.addEventListener("input", fit);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.altKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value;
    if (text.trim() === "") return;
    input.value = "";
    fit();
    input.focus();
    onSend(text);
  });
  byId("skip", HTMLButtonElement).addEventListener("click", () => input.focus());
  return {
    focus: () => input.focus(),
    /**
     * Puts text back that could not be sent anywhere, unless something new was typed.
     *
     * @param {string} text
     */
    giveBack(text) {
      if (input.value === "") input.value = text;
      fit();
    },
  };
}
