/**
 * The two roads to a session's events, as thin shells: they move frames and say how it ended, and decide nothing.
 *
 * Once closed from this side a road is silent: neither frames nor an end are reported any more.
 */

import { EventStreamParser } from "./event_stream.js";
import { problemOf } from "./problems.js";

export const SUBPROTOCOL = "sightline.v1.json";

/**
 * @typedef {object} Road
 * @property {() => void} close
 * @property {(frame: object) => void} send does nothing where the road has one direction
 */

/**
 * @typedef {object} Reports
 * @property {(frame: import("./types.js").Frame) => void} onFrame
 * @property {() => void} onAlive bytes came that are not a frame
 * @property {() => void} onGarbled something came that is not a frame and should have been one
 * @property {(end: import("./connection.js").End) => void} onEnd
 */

/**
 * @param {string} url
 * @param {typeof globalThis.WebSocket} WebSocket
 * @param {Reports} reports
 * @returns {Road}
 */
export function openWebSocket(url, WebSocket, reports) {
  const socket = new WebSocket(url, SUBPROTOCOL);
  let closed = false;
  socket.onmessage = ({ data }) => {
    if (!closed) deliver(data, reports);
  };
  socket.onclose = ({ code }) => {
    if (closed) return;
    closed = true;
    reports.onEnd({ code });
  };
  return {
    close() {
      closed = true;
      socket.close(1000);
    },
    send(frame) {
      if (!closed && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
    },
  };
}

/**
 * Server-sent events over fetch: unlike EventSource it shows why a stream was refused, and retries when we say so.
 *
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 * @param {Record<string, string>} headers
 * @param {Reports} reports
 * @returns {Road}
 */
export function openEventStream(url, fetch, headers, reports) {
  const abort = new AbortController();
  const { signal } = abort;
  readEventStream(url, fetch, { headers, signal }, reports).then(
    (end) => signal.aborted || reports.onEnd(end),
    () => signal.aborted || reports.onEnd({}),
  );
  return { close: () => abort.abort(), send() {} };
}

/**
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 * @param {{headers: Record<string, string>, signal: AbortSignal}} options
 * @param {Reports} reports
 * @returns {Promise<import("./connection.js").End>} how the stream ended
 */
async function readEventStream(url, fetch, { headers, signal }, reports) {
  const accept = { accept: "text/event-stream" };
  const response = await fetch(url, { headers: { ...headers, ...accept }, signal, cache: "no-store" });
  if (!response.ok) {
    const { status, problem, retryAfterMs } = await problemOf(response);
    return { status, problem, retryAfterMs };
  }
  if (!response.body || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
    await response.body?.cancel();
    return { status: response.status };
  }
  const parser = new EventStreamParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done || signal.aborted) return {};
    const events = parser.push(decoder.decode(value, { stream: true }));
    if (events.length === 0) reports.onAlive();
    for (const { data } of events) if (!signal.aborted) deliver(data, reports);
  }
}

/**
 * @param {unknown} data
 * @param {Reports} reports
 */
function deliver(data, reports) {
  const frame = parsed(data);
  if (frame) reports.onFrame(frame);
  else reports.onGarbled();
}

/**
 * @param {unknown} data
 * @returns {import("./types.js").Frame | null}
 */
function parsed(data) {
  try {
    const frame = typeof data === "string" ? JSON.parse(data) : null;
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}
