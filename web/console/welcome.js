/**
 * What stands where a transcript would: nothing chosen, nothing there yet, or a session that cannot be shown.
 */

import { byId, setText } from "./dom.js";

const section = byId("welcome", HTMLElement);
const title = byId("welcome-title", HTMLElement);
const text = byId("welcome-text", HTMLElement);
const action = byId("welcome-action", HTMLButtonElement);

/**
 * @param {object} now
 * @param {boolean} now.watching
 * @param {import("../client/types.js").Snapshot | null} now.snapshot
 * @param {{known: boolean, count: number}} now.sidebar
 */
export function showWelcome(now) {
  const words = wordsFor(now);
  section.hidden = words === null;
  if (!words) return;
  setText(title, words.title);
  setText(text, words.text);
  setText(action, words.action ?? "");
  action.hidden = !words.action;
}

/**
 * @param {Parameters<typeof showWelcome>[0]} now
 * @returns {{title: string, text: string, action?: string} | null}
 */
function wordsFor({ watching, snapshot, sidebar }) {
  const observation = snapshot?.observation;
  if (!watching) {
    if (!sidebar.known) return null;
    if (sidebar.count === 0) {
      const text = "A session is one line of work: you give it inputs, watch it run, leave, and find everything in place.";
      return { title: "Nothing in sight yet", text, action: "Start a session" };
    }
    return { title: "Choose a session", text: "Or type below to begin a new one.", action: "New session" };
  }
  if (snapshot?.phase === "unavailable" && !observation) {
    return { title: "This session is not here", text: "It may have been deleted, or the address is wrong.", action: "New session" };
  }
  const isEmpty = observation && observation.read_view.messages.length === 0 && !observation.live && observation.queue.length === 0;
  return isEmpty ? { title: "A clear line", text: "Type below. What you send is kept, and runs even when you leave." } : null;
}
