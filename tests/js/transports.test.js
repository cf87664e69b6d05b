import assert from "node:assert/strict";
import { test } from "node:test";

import { SUBPROTOCOL, openEventStream, openWebSocket } from "../../web/client/transports.js";
import { event, fakeWebSocket, fresh, settled } from "./fakes.js";

function recorder() {
  const seen = [];
  return {
    seen,
    onFrame: (frame) => seen.push(["frame", frame.type]),
    onAlive: () => seen.push(["alive"]),
    onGarbled: () => seen.push(["garbled"]),
    onEnd: (end) => seen.push(["end", end]),
  };
}

function socket() {
  const WebSocket = fakeWebSocket();
  const reports = recorder();
  const road = openWebSocket("ws://host/events", WebSocket, reports);
  return { road, reports, socket: WebSocket.opened[0] };
}

test("a WebSocket offers the subprotocol and reports frames and its end", () => {
  const { reports, socket: opened } = socket();
  opened.serve(fresh(1), event(2));
  opened.end(4503);
  assert.equal(opened.protocol, SUBPROTOCOL);
  assert.deepEqual(reports.seen, [["frame", "observation"], ["frame", "event"], ["end", { code: 4503 }]]);
});

test("what is not a frame is reported as garbled", () => {
  const { reports, socket: opened } = socket();
  for (const data of ["{", "null", "[]", '{"type":7}', "{}", new ArrayBuffer(2)]) opened.say(data);
  assert.deepEqual(reports.seen, Array(6).fill(["garbled"]));
});

test("a WebSocket closed from here is silent", () => {
  const { road, reports, socket: opened } = socket();
  road.close();
  opened.say(JSON.stringify(fresh(1)));
  opened.end(1000);
  assert.deepEqual(reports.seen, []);
  assert.equal(opened.closedWith, 1000);
});

test("frames are sent only while the socket is open", () => {
  const { road, socket: opened } = socket();
  road.send({ type: "ping", id: "1" });
  opened.readyState = 1;
  road.send({ type: "ping", id: "2" });
  assert.deepEqual(opened.sent, [{ type: "ping", id: "2" }]);
});

/** A response whose body the test feeds. */
function streamed(init = { headers: { "content-type": "text/event-stream; charset=utf-8" } }) {
  let controller;
  const body = new ReadableStream({ start: (given) => void (controller = given) });
  const requests = [];
  const fetch = async (url, options) => {
    requests.push({ url, options });
    options.signal.addEventListener("abort", () => controller.error(options.signal.reason));
    return new Response(body, init);
  };
  const bytes = (text) => controller.enqueue(new TextEncoder().encode(text));
  return { fetch, requests, bytes, close: () => controller.close(), fail: () => controller.error(new TypeError("reset")) };
}

const sse = (frame) => `event: ${frame.type}\nid: ${frame.cursor}\ndata: ${JSON.stringify(frame)}\n\n`;

test("server-sent events report frames, comments as life, and the end", async () => {
  const stream = streamed();
  const reports = recorder();
  openEventStream("http://host/events", stream.fetch, { headers: { authorization: "Bearer k" } }, reports);
  stream.bytes("retry: 500\n\n");
  await settled();
  stream.bytes(sse(fresh(1)) + sse(event(2)));
  await settled();
  stream.bytes(": still here\n\n");
  await settled();
  stream.close();
  await settled();
  assert.deepEqual(reports.seen, [["alive"], ["frame", "observation"], ["frame", "event"], ["alive"], ["end", {}]]);
  const { headers, cache } = stream.requests[0].options;
  assert.deepEqual(headers, { authorization: "Bearer k", accept: "text/event-stream" });
  assert.equal(cache, "no-store");
});

test("letters cut in two by the network are whole again", async () => {
  const whole = new TextEncoder().encode(sse(event(1, { text: "naïve 🔭" })));
  const cut = whole.indexOf(0xf0) + 2;
  const texts = [];
  const reports = { ...recorder(), onFrame: (frame) => texts.push(frame.data.metadata.text) };
  openEventStream("http://host/events", cutStream([whole.slice(0, cut), whole.slice(cut)]), {}, reports);
  await settled();
  assert.deepEqual(texts, ["naïve 🔭"]);
});

function cutStream(pieces) {
  return async () =>
    new Response(
      new ReadableStream({
        start(controller) {
          pieces.forEach((piece) => controller.enqueue(piece));
          controller.close();
        },
      }),
      { headers: { "content-type": "text/event-stream" } },
    );
}

test("a refused stream says why", async () => {
  const reports = recorder();
  const problem = { code: "draining", retryable: true };
  const fetch = async () =>
    new Response(JSON.stringify(problem), { status: 503, headers: { "content-type": "application/problem+json", "retry-after": "3" } });
  openEventStream("http://host/events", fetch, {}, reports);
  await settled();
  assert.deepEqual(reports.seen, [["end", { status: 503, problem, retryAfterMs: 3000 }]]);
});

test("an answer that is no event stream ends it", async () => {
  const reports = recorder();
  openEventStream("http://host/events", async () => new Response("<html>", { headers: { "content-type": "text/html" } }), {}, reports);
  await settled();
  assert.deepEqual(reports.seen, [["end", { status: 200 }]]);
});

test("a network that fails ends it without a word", async () => {
  const reports = recorder();
  openEventStream("http://host/events", async () => Promise.reject(new TypeError("no route")), {}, reports);
  await settled();
  const stream = streamed();
  openEventStream("http://host/events", stream.fetch, {}, reports);
  await settled();
  stream.fail();
  await settled();
  assert.deepEqual(reports.seen, [["end", {}], ["end", {}]]);
});

test("server-sent events closed from here are silent", async () => {
  const stream = streamed();
  const reports = recorder();
  const road = openEventStream("http://host/events", stream.fetch, {}, reports);
  await settled();
  road.close();
  await settled();
  assert.deepEqual(reports.seen, []);
  assert.equal(stream.requests[0].options.signal.aborted, true);
});
