/**
 * The head of the page: which session, what it is doing, and how this page is connected to it.
 */

import { byId, setText } from "./dom.js";

const title = byId("title", HTMLElement);
const status = byId("status", HTMLElement);
const connection = byId("connection", HTMLElement);

/**
 * @param {string} name
 * @param {import("../client/types.js").Status | null} doing
 */
export function showTitle(name, doing) {
  setText(title, name);
  setText(status, doing ?? "");
  status.hidden = doing === null;
  if (doing) status.dataset.status = doing;
  const mark = doing === "running" || doing === "waiting" ? "● " : "";
  const text = `${mark}${name} · Sightline`;
  if (document.title !== text) document.title = text;
}

/**
 * @param {{phase: string, resynchronised: number} | null} snapshot
 */
export function showConnection(snapshot) {
  connection.hidden = snapshot === null;
  if (!snapshot) return;
  setText(connection, snapshot.phase);
  connection.dataset.phase = snapshot.phase;
  connection.dataset.resynchronised = String(snapshot.resynchronised);
}
