/**
 * The two roads to the events of sessions, as thin shells: they move frames and say how it ended, and decide nothing.
 *
 * Once closed from this side a road is silent: neither frames nor an end are reported any more.
 */

import { EventStreamParser } from "./event_stream.js";
import { problemOf } from "./problems.js";

/** @typedef {import("./host.js").Host} Host */
/** @typedef {import("./link.js").Transport} Transport */

export const SUBPROTOCOL = "sightline.v1.json";

/**
 * @typedef {object} Road
 * @property {() => void} close
 * @property {(frame: object) => void} send does nothing where the road has one direction
 */

/**
 * @typedef {object} Request
 * @property {Record<string, string>} [headers]
 * @property {unknown} [body] sent as JSON by POST; without one it is a GET
 */

/**
 * @typedef {object} Reports
 * @property {() => void} [onOpen] a road of two directions can be sent on
 * @property {(frame: import("./types.js").Frame) => void} onFrame
 * @property {() => void} onAlive bytes came that are not a frame
 * @property {() => void} onGarbled something came that is not a frame and should have been one
 * @property {(end: import("./link.js").End) => void} onEnd
 */

/**
 * @param {Pick<Host, "WebSocket" | "fetch">} host
 * @returns {Transport[]}
 */
export function availableTransports({ WebSocket, fetch }) {
  /** @type {Transport[]} */
  const available = [];
  if (WebSocket) available.push("websocket");
  if (fetch) available.push("sse");
  return available;
}

/**
 * Throws when the place does not have what it takes, or refuses it.
 *
 * @param {Transport} transport
 * @param {Pick<Host, "WebSocket" | "fetch">} host
 * @param {Request & {socketUrl: string, url: string}} to
 * @param {Reports} reports
 * @returns {Road}
 */
export function openRoad(transport, { WebSocket, fetch }, { socketUrl, url, ...request }, reports) {
  if (transport === "websocket" && WebSocket) return openWebSocket(socketUrl, WebSocket, reports);
  if (fetch) return openEventStream(url, fetch, request, reports);
  throw new TypeError("neither WebSocket nor fetch is here");
}

/**
 * @param {string} url
 * @param {typeof globalThis.WebSocket} WebSocket
 * @param {Reports} reports
 * @returns {Road}
 */
export function openWebSocket(url, WebSocket, reports) {
  const socket = new WebSocket(url, SUBPROTOCOL);
  let closed = false;
  socket.onopen = () => {
    if (!closed) reports.onOpen?.();
  };
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
 * @param {Request} request
 * @param {Reports} reports
 * @returns {Road}
 */
export function openEventStream(url, fetch, request, reports) {
  const abort = new AbortController();
  const { signal } = abort;
  readEventStream(url, fetch, { ...init(request), signal }, reports).then(
    (end) => signal.aborted || reports.onEnd(end),
    () => signal.aborted || reports.onEnd({}),
  );
  return { close: () => abort.abort(), send() {} };
}

/**
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 * @param {RequestInit & {signal: AbortSignal}} init
 * @param {Reports} reports
 * @returns {Promise<import("./link.js").End>} how the stream ended
 */
async function readEventStream(url, fetch, init, reports) {
  const { signal } = init;
  const response = await fetch(url, init);
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
 * @param {Request} request
 * @returns {RequestInit}
 */
function init({ headers, body }) {
  const accepting = { ...headers, accept: "text/event-stream" };
  if (body === undefined) return { headers: accepting, cache: "no-store" };
  const sending = { ...accepting, "content-type": "application/json" };
  return { method: "POST", headers: sending, body: JSON.stringify(body), cache: "no-store" };
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
