/**
 * On a narrow screen the list of sessions is a drawer: opened by a button, closed by choosing, by Escape, or by the scrim.
 */

import { byId } from "./dom.js";

/** @returns {{close: () => void}} */
export function drawer() {
  const button = byId("menu", HTMLButtonElement);
  const sidebar = byId("sidebar", HTMLElement);
  const scrim = byId("scrim", HTMLButtonElement);

  /** @param {boolean} open */
  const set = (open) => {
    document.body.toggleAttribute("data-drawer", open);
    button.setAttribute("aria-expanded", String(open));
  };
  const close = () => {
    if (!document.body.hasAttribute("data-drawer")) return;
    const wasInside = sidebar.contains(document.activeElement);
    set(false);
    if (wasInside) button.focus();
  };
  button.addEventListener("click", () => {
    set(true);
    sidebar.querySelector("a[aria-current]")?.scrollIntoView({ block: "nearest" });
    byId("new-session", HTMLButtonElement).focus();
  });
  scrim.addEventListener("click", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  return { close };
}
