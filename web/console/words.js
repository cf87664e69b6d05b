/**
 * How things are said: moments, titles, errors.
 */

import { ProblemError, UnreachableError } from "../client/index.js";

const MINUTE = 60_000;
const DAY = 86_400_000;
const TITLE_LENGTH = 80;

/**
 * @param {number} atMs
 * @param {number} now
 * @returns {string} short, for a list
 */
export function ago(atMs, now) {
  const passed = now - atMs;
  if (passed < MINUTE) return "now";
  if (passed < 60 * MINUTE) return `${Math.floor(passed / MINUTE)} min`;
  const [date, today] = [new Date(atMs), new Date(now)];
  if (date.toDateString() === today.toDateString()) return clock(atMs);
  if (passed < 6 * DAY) return date.toLocaleDateString(undefined, { weekday: "short" });
  return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

/** @param {number} atMs */
export function clock(atMs) {
  return new Date(atMs).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}

/**
 * @param {string} text
 * @returns {string} its first line, short enough for a heading
 */
export function firstLine(text) {
  const line = text.trim().split("\n", 1)[0];
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1)}…` : line;
}

/**
 * @param {string} sessionId
 * @returns {string} enough of an id to tell it from others: generated ones begin alike and end apart
 */
export function shortId(sessionId) {
  return sessionId.length > 14 ? `…${sessionId.slice(-8)}` : sessionId;
}

/**
 * @param {unknown} error
 * @returns {string}
 */
export function sentenceOf(error) {
  if (error instanceof UnreachableError) return "The server could not be reached.";
  if (error instanceof ProblemError) return problemText(error.problem) || error.message;
  return error instanceof Error ? error.message : String(error);
}

const KNOWN = new Map([
  ["session_deleted", "This session was deleted."],
  ["session_not_found", "There is no such session."],
]);

/**
 * @param {import("../client/types.js").Problem} problem
 * @returns {string}
 */
export function problemText({ code, detail, title }) {
  return KNOWN.get(code ?? "") ?? detail ?? title ?? code ?? "";
}

/**
 * @param {unknown} value
 * @returns {string} a tool's argument or output as people read it
 */
export function pretty(value) {
  if (typeof value === "string") return value;
  return value === undefined ? "" : JSON.stringify(value, null, 2);
}

const COMPACT_LENGTH = 400;

/**
 * @param {unknown} value
 * @returns {string} on one line, cut when it is long: for a log
 */
export function compact(value) {
  const text = (typeof value === "string" ? value : value == null ? "" : JSON.stringify(value)).trim().replace(/\s*\n\s*/g, " ⏎ ");
  return text.length > COMPACT_LENGTH ? `${text.slice(0, COMPACT_LENGTH - 1)}…` : text;
}
