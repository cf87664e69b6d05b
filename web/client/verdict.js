/**
 * What the end of a connection means for the next one.
 *
 * Three answers. `retry`: come back with the last cursor. `forget`: the server will never take this cursor, so drop it with
 * the state it belongs to and start from a fresh snapshot. `end`: asking again as it is would get the same answer, a person
 * has to decide. What the server said wins over how the connection happened to break: a `goodbye` or an `error` frame,
 * then a close code or an HTTP status, then nothing, which is the network's way of ending.
 */

/** @typedef {import("./types.js").Problem} Problem */
/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {'retry' | 'forget' | 'end'} Verdict */

/**
 * @typedef {object} End How a connection ended, as far as anybody said.
 * @property {number} [code] a WebSocket close code, also the one a `goodbye` names
 * @property {number} [status] the HTTP status of a stream that was refused
 * @property {Problem} [problem]
 */

const UNUSABLE_CURSOR = new Set(["malformed_cursor", "wrong_session_cursor", "cursor_gone"]);
const TEMPORARY_STATUS = new Set([408, 425, 429]);
const BAD_FRAME = 4400;
const REFUSED_BY_POLICY = 1008;

/**
 * @param {End} end
 * @param {boolean} hadCursor whether the connection was asked for with a cursor
 * @returns {Verdict}
 */
export function verdictOn({ code, status, problem }, hadCursor) {
  if (code !== undefined && code >= 4000 && code <= 4499) {
    const cursorIsWhy = UNUSABLE_CURSOR.has(problem?.code ?? "") || (code === BAD_FRAME && !problem);
    return hadCursor && cursorIsWhy ? "forget" : "end";
  }
  if (code === REFUSED_BY_POLICY) return "end";
  if (status !== undefined && status >= 400 && status <= 499) {
    if (hadCursor && UNUSABLE_CURSOR.has(problem?.code ?? "")) return "forget";
    return TEMPORARY_STATUS.has(status) || problem?.retryable ? "retry" : "end";
  }
  return "retry";
}

/**
 * Whether the server itself ended the connection, rather than something on the way to it.
 *
 * @param {End} end
 */
export function saidByServer({ code, status }) {
  return status !== undefined || (code !== undefined && code !== 1006);
}

/**
 * The end that a `goodbye` announces.
 *
 * @param {Frame} goodbye
 * @returns {End & {retryAfterMs?: number, jitterMs?: number}}
 */
export function endOf({ reason, code, retry_after_ms, jitter_ms }) {
  const isFinal = typeof code === "number" && code >= 4000 && code <= 4499;
  return { code, retryAfterMs: retry_after_ms, jitterMs: jitter_ms, problem: isFinal ? { code: reason, detail: undefined } : undefined };
}
