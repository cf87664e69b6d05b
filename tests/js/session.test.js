import assert from "node:assert/strict";
import { test } from "node:test";

import { SAVE_EVERY_MS } from "../../web/client/held.js";
import { SessionClient, connectSession } from "../../web/client/session.js";
import { webStorageKeeper } from "../../web/client/storage.js";
import { caughtUp, cursor, event, fakeHost, fakeStorage, fakeWebSocket, fresh, gap, observation, resumed, settled } from "./fakes.js";

function watch(options = {}) {
  const WebSocket = options.WebSocket ?? fakeWebSocket();
  const host = options.host ?? fakeHost({ WebSocket });
  const snapshots = [];
  const client = connectSession({
    baseUrl: "http://host:8700",
    sessionId: "s1",
    transports: ["websocket"],
    onChange: (snapshot) => snapshots.push(snapshot),
    ...options,
    host,
  });
  return { client, host, snapshots, WebSocket, socket: () => WebSocket.opened.at(-1) };
}

const phases = (snapshots) => snapshots.map((snapshot) => snapshot.phase).filter((phase, index, all) => phase !== all[index - 1]);

test("a fresh start asks without a cursor and shows what it is told", () => {
  const { client, socket } = watch({ messages: 50 });
  assert.equal(socket().url.href, "ws://host:8700/v1/sessions/s1/events?messages=50");
  socket().serve(fresh(1), caughtUp(1), event(2));
  assert.equal(client.snapshot.phase, "live");
  assert.deepEqual(client.snapshot.observation.metadata, { position: 2 });
  assert.equal(client.snapshot.observation.cursor, cursor(2));
});

test("a lost connection resumes behind the last folded event", () => {
  const { client, host, socket, snapshots } = watch();
  socket().serve(fresh(1), caughtUp(1), event(2), event(3));
  socket().end(1006);
  host.advance(250);
  assert.equal(socket().url.searchParams.get("cursor"), cursor(3));
  socket().serve(resumed(3), event(4), caughtUp(4));
  assert.deepEqual(client.snapshot.observation.metadata, { position: 4 });
  assert.deepEqual(phases(snapshots), ["connecting", "live", "reconnecting", "live"]);
});

test("a gap replaces the state and is not an error", () => {
  const { client, host, socket } = watch();
  socket().serve(fresh(1), caughtUp(1), event(2));
  socket().end();
  host.advance(250);
  socket().serve(gap(9), caughtUp(9), event(10));
  const { phase, resynchronised, problem, observation: seen } = client.snapshot;
  assert.deepEqual([phase, resynchronised, problem], ["resynchronised", 1, null]);
  assert.deepEqual(seen.metadata, { position: 10 });
  client.settle();
  assert.equal(client.snapshot.phase, "live");
});

test("a gap in mid-stream goes on from its own snapshot", () => {
  const { client, socket } = watch();
  socket().serve(fresh(1), caughtUp(1), event(2), gap(9));
  assert.equal(client.snapshot.observation.cursor, cursor(9));
  socket().serve(event(10));
  assert.equal(client.snapshot.observation.cursor, cursor(10));
});

test("late frames of a replaced socket are not folded", () => {
  const { client, host, socket, WebSocket } = watch();
  socket().serve(fresh(1), caughtUp(1));
  host.wake();
  host.advance(2000 + 250);
  assert.equal(WebSocket.opened.length, 2);
  WebSocket.opened[0].serve(event(77));
  assert.equal(client.snapshot.observation.cursor, cursor(1));
});

test("waking up sends a ping that a pong answers", () => {
  const { client, host, socket, WebSocket } = watch();
  socket().serve(fresh(1), caughtUp(1));
  host.wake();
  assert.equal(socket().sent[0].type, "ping");
  socket().serve({ type: "pong", id: socket().sent[0].id });
  host.advance(5000);
  assert.equal(WebSocket.opened.length, 1);
  assert.equal(client.snapshot.phase, "live");
});

test("the cursor is stored after the fold, with the state it belongs to", () => {
  const storage = fakeStorage();
  const { host, socket } = watch({ storage: webStorageKeeper(storage) });
  socket().serve(fresh(1), caughtUp(1), event(2));
  host.advance(SAVE_EVERY_MS);
  socket().serve(event(3));
  const { observation: kept } = JSON.parse([...storage.items.values()][0]);
  assert.equal(kept.cursor, cursor(3));
  assert.deepEqual(kept.metadata, { position: 3 });
});

test("an event that cannot be folded never becomes the cursor; the session starts fresh", () => {
  const storage = fakeStorage();
  const { client, host, socket } = watch({ storage: webStorageKeeper(storage) });
  socket().serve(fresh(1), caughtUp(1), event(2));
  socket().serve({ ...event(4), kind: "queue_changed", data: { kind: "enqueued", batches: 7 } });
  assert.equal(storage.items.size, 0);
  host.advance(500);
  assert.equal(socket().url.searchParams.get("cursor"), null);
  assert.equal(client.snapshot.phase, "reconnecting");
  assert.ok(client.snapshot.observation, "what was on the screen stays there meanwhile");
  socket().serve(fresh(9), caughtUp(9));
  assert.equal(client.snapshot.phase, "resynchronised");
});

test("storing is throttled, and done at the last moment", () => {
  const storage = fakeStorage();
  let writes = 0;
  const keeper = webStorageKeeper(storage);
  const counting = { ...keeper, save: (name, value) => ((writes += 1), keeper.save(name, value)) };
  const { host, socket } = watch({ storage: counting });
  socket().serve(fresh(1), caughtUp(1));
  for (let position = 2; position < 500; position += 1) socket().serve(event(position));
  assert.equal(writes, 1);
  host.rest();
  assert.equal(writes, 2);
  host.rest();
  assert.equal(writes, 2, "nothing new, nothing written");
  assert.equal(JSON.parse([...storage.items.values()][0]).observation.cursor, cursor(499));
});

test("a reload resumes from what was stored, and shows it meanwhile", () => {
  const storage = fakeStorage();
  const first = watch({ storage: webStorageKeeper(storage) });
  first.socket().serve(fresh(1), caughtUp(1), event(2));
  first.client.close();
  const second = watch({ storage: webStorageKeeper(storage) });
  assert.equal(second.socket().url.searchParams.get("cursor"), cursor(2));
  assert.deepEqual(second.client.snapshot.observation.metadata, { position: 2 });
  assert.equal(second.client.snapshot.phase, "connecting");
  second.socket().serve(resumed(2), event(3), caughtUp(3));
  assert.deepEqual(second.client.snapshot.observation.metadata, { position: 3 });
});

test("a bare cursor, a foreign or a damaged state is never resumed from", () => {
  for (const stored of [
    '{"format":1,"observation":{"cursor":"sl1:1:1:1:s1"}}',
    JSON.stringify({ format: 1, observation: { ...observation(1), session_id: "other" } }),
    JSON.stringify({ format: 0, observation: observation(1) }),
    JSON.stringify({ format: 1, observation: { ...observation(1), cursor: undefined } }),
    "{half",
    "null",
  ]) {
    const storage = fakeStorage();
    storage.items.set("sightline:http://host:8700 s1", stored);
    const { socket } = watch({ storage: webStorageKeeper(storage) });
    assert.equal(socket().url.searchParams.get("cursor"), null, stored);
  }
});

test("a cursor the server will not take is dropped with its state", () => {
  const storage = fakeStorage();
  webStorageKeeper(storage).save("http://host:8700 s1", observation(5));
  const { client, socket, WebSocket } = watch({ storage: webStorageKeeper(storage) });
  socket().serve({ type: "error", problem: { code: "malformed_cursor", status: 400 } });
  socket().end(4400);
  assert.equal(WebSocket.opened.length, 2);
  assert.equal(socket().url.searchParams.get("cursor"), null);
  assert.equal(storage.items.size, 0);
  socket().serve(fresh(1), caughtUp(1));
  assert.equal(client.snapshot.phase, "resynchronised");
});

test("a session that is not there is said so, and can be asked for again", () => {
  const { client, host, socket, WebSocket } = watch();
  socket().serve({ type: "error", problem: { code: "session_not_found", detail: "no session s1" } });
  socket().end(4404);
  assert.equal(client.snapshot.phase, "unavailable");
  assert.equal(client.snapshot.problem.detail, "no session s1");
  host.advance(3_600_000);
  assert.equal(WebSocket.opened.length, 1);
  client.retry();
  assert.equal(WebSocket.opened.length, 2);
});

test("a WebSocket class that throws is a connection that failed", () => {
  class Refusing {
    constructor() {
      throw new DOMException("blocked", "SecurityError");
    }
  }
  const host = fakeHost({ WebSocket: Refusing, fetch: async () => new Promise(() => {}) });
  const { client } = watch({ host, transports: ["websocket", "sse"] });
  assert.equal(client.snapshot.phase, "connecting");
  host.advance(5000);
  assert.ok(host.waiting() > 0);
});

test("closing stops everything: socket, timers, listeners", () => {
  const { client, host, socket } = watch();
  socket().serve(fresh(1), caughtUp(1));
  client.close();
  assert.equal(socket().closedWith, 1000);
  assert.deepEqual([host.waiting(), host.watchers()], [0, 0]);
});

test("the snapshot is the same object until something changed", () => {
  const { client, socket } = watch();
  socket().serve(fresh(1), caughtUp(1));
  const seen = client.snapshot;
  socket().serve({ type: "pong" }, { type: "heartbeat" });
  assert.equal(client.snapshot, seen);
  let calls = 0;
  const unsubscribe = client.subscribe(() => (calls += 1));
  socket().serve(event(2));
  unsubscribe();
  socket().serve(event(3));
  assert.equal(calls, 1);
  assert.notEqual(client.snapshot, seen);
});

test("every folded frame is told, after it was folded", () => {
  const told = [];
  const { client, socket } = watch({ onFrame: (frame) => told.push([frame.type, client?.snapshot ? frame.cursor : frame.cursor]) });
  socket().serve(fresh(1), caughtUp(1), event(2), { type: "pong" });
  assert.deepEqual(told.map(([type]) => type), ["observation", "event"]);
});

test("over server-sent events the same story is told", async () => {
  const requests = [];
  let controller;
  const fetch = async (url) => {
    requests.push(new URL(url));
    const body = new ReadableStream({ start: (given) => void (controller = given) });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
  const host = fakeHost({ fetch });
  const { client } = watch({ host, transports: ["sse"] });
  const serve = async (...frames) => {
    controller.enqueue(new TextEncoder().encode(frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join("")));
    await settled();
  };
  await settled();
  await serve(fresh(1), caughtUp(1), event(2));
  assert.equal(client.snapshot.phase, "live");
  controller.close();
  await settled();
  host.advance(250);
  await settled();
  assert.equal(requests[1].searchParams.get("cursor"), cursor(2));
  assert.equal(requests[1].protocol, "http:");
  await serve(resumed(2), event(3), caughtUp(3));
  assert.deepEqual(client.snapshot.observation.metadata, { position: 3 });
});

test("a base URL may have a path, and ids are escaped", () => {
  const WebSocket = fakeWebSocket();
  new SessionClient({
    baseUrl: "https://host/agents/", sessionId: "a:b@c", transports: ["websocket"], host: fakeHost({ WebSocket }),
  }).start();
  assert.equal(WebSocket.opened[0].url.href, "wss://host/agents/v1/sessions/a%3Ab%40c/events");
});
