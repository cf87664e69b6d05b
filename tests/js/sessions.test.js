import assert from "node:assert/strict";
import { test } from "node:test";

import { GATHER_MS } from "../../web/client/observing.js";
import { openSessions } from "../../web/client/sessions.js";
import { webStorageKeeper } from "../../web/client/storage.js";
import { caughtUp, event, fakeHost, fakeStorage, fakeWebSocket, fresh, gap, observation, of, resumed, settled } from "./fakes.js";

const cursor = (sessionId, position) => `sl1:1:1:${position}:${sessionId}`;
const entry = (session_id, updated_at_ms, more = {}) => ({ session_id, updated_at_ms, status: "idle", pending: 0, title: "", ...more });
const index = (...sessions) => ({ type: "index", session_id: "*", sessions });
const seen = (view) => view.snapshot.observation?.metadata.position;
const phaseOf = (view) => view.snapshot.phase;
const refusal = (sessionId, code, status, id) => ({ type: "error", session_id: sessionId, id, problem: { code, status } });
const goodbye = (sessionId, reason, code, more = {}) => ({ type: "goodbye", session_id: sessionId, reason, code, ...more });

function open(options = {}) {
  const WebSocket = fakeWebSocket();
  const host = fakeHost({ WebSocket });
  const sessions = openSessions({ baseUrl: "http://host:8700", transports: ["websocket"], host, ...options });
  const socket = () => WebSocket.opened.at(-1);
  const sent = (type) => socket().sent.filter((frame) => frame.type === type);
  const pong = () => socket().serve({ type: "pong", id: sent("ping").at(-1).id });
  return { sessions, host, WebSocket, socket, sent, pong };
}

/** Several sessions, live at position 1. */
function live(ids, options) {
  const place = open(options);
  const views = ids.map((id) => place.sessions.watch(id));
  place.socket().open();
  for (const id of ids) place.socket().serve(of(id, fresh(1)), of(id, caughtUp(1)));
  return { ...place, views };
}

test("one socket for all: each session is asked for once it is open, and shows its own", () => {
  const { sessions, socket, sent, WebSocket } = open({ messages: 50 });
  const [one, two] = [sessions.watch("a"), sessions.watch("b")];
  assert.equal(socket().url.href, "ws://host:8700/v1/observe");
  assert.deepEqual(socket().sent, []);
  socket().open();
  assert.deepEqual(sent("subscribe").map(({ session_id, cursor, messages }) => [session_id, cursor, messages]), [["a", null, 50], ["b", null, 50]]);
  socket().serve(of("a", fresh(1)), of("b", fresh(1)), of("a", caughtUp(1)), of("b", event(2)), of("a", event(5)));
  assert.deepEqual([seen(one), seen(two)], [5, 2]);
  assert.deepEqual([phaseOf(one), phaseOf(two)], ["live", "connecting"]);
  socket().serve(of("b", caughtUp(2)));
  assert.equal(phaseOf(two), "live");
  assert.equal(WebSocket.opened.length, 1);
});

test("a session that is added later is asked for at once, and only it", () => {
  const { sessions, sent } = live(["a"]);
  sessions.watch("b");
  assert.deepEqual(sent("subscribe").map((frame) => frame.session_id), ["a", "b"]);
});

test("watching the same session twice is one subscription with two listeners", () => {
  const told = [];
  const { sessions, socket, sent, views } = live(["a"]);
  const again = sessions.watch("a", { onChange: ({ observation: { metadata } }) => told.push(metadata.position) });
  assert.equal(again, views[0]);
  assert.equal(sent("subscribe").length, 1);
  socket().serve(of("a", event(2)));
  assert.deepEqual(told, [2]);
});

test("a reconnect in mid-turn asks for each session behind the last event that was folded of it", () => {
  const { host, socket, sent, views } = live(["a", "b"]);
  const turn = { kind: "turn_activity", data: { id: "1", correlation_id: "m", event: { type: "turn_started", turn_id: "t", attempt: 1, boundary: "x" } } };
  const delta = (text) => ({ kind: "turn_activity", data: { id: "2", correlation_id: "m", event: { type: "assistant_prose_delta", text } } });
  socket().serve(of("a", { ...event(2), ...turn }), of("a", { ...event(3), ...delta("good ") }), of("b", event(7)));
  socket().end(1006);
  assert.deepEqual(views.map(phaseOf), ["reconnecting", "reconnecting"]);
  host.advance(250);
  socket().open();
  assert.deepEqual(sent("subscribe").map((frame) => frame.cursor), [cursor("a", 3), cursor("b", 7)]);
  socket().serve(of("b", resumed(7)), of("a", resumed(3)), of("a", { ...event(4), ...delta("morning") }), of("a", caughtUp(4)), of("b", caughtUp(7)));
  assert.equal(views[0].snapshot.observation.live.text, "good morning");
  assert.deepEqual(views.map(phaseOf), ["live", "live"]);
});

test("a gap replaces the state of its session, and no other", () => {
  const { socket, views } = live(["a", "b"]);
  const other = views[1].snapshot;
  socket().serve(of("a", gap(9)), of("a", event(10)));
  assert.deepEqual([phaseOf(views[0]), views[0].snapshot.resynchronised, seen(views[0])], ["resynchronised", 1, 10]);
  assert.equal(views[1].snapshot, other);
  views[0].settle();
  assert.equal(phaseOf(views[0]), "live");
});

test("what is refused about one session ends that one, until it is asked for again", () => {
  const { sessions, socket, sent, views } = live(["a"]);
  const missing = sessions.watch("gone");
  socket().serve(refusal("gone", "session_not_found", 404, sent("subscribe").at(-1).id));
  assert.deepEqual([phaseOf(missing), missing.snapshot.problem.code], ["unavailable", "session_not_found"]);
  socket().serve(of("a", event(2)));
  assert.deepEqual([phaseOf(views[0]), seen(views[0])], ["live", 2]);
  missing.retry();
  assert.equal(sent("subscribe").at(-1).session_id, "gone");
  socket().serve(of("gone", fresh(1)), of("gone", caughtUp(1)));
  assert.equal(phaseOf(missing), "live");
});

test("a deleted session says so, and the others stay", () => {
  const { host, socket, views, WebSocket } = live(["a", "b"]);
  socket().serve(goodbye("a", "session_deleted", 4410), of("b", event(2)));
  assert.deepEqual(views.map(phaseOf), ["unavailable", "live"]);
  assert.equal(views[0].snapshot.problem.code, "session_deleted");
  socket().end();
  host.advance(250);
  socket().open();
  assert.deepEqual(socket().sent.map((frame) => frame.session_id), ["b"], "what has ended is not asked for again");
  assert.equal(WebSocket.opened.length, 2);
});

test("when all that is watched has ended there is no connection, until one is asked for again", () => {
  const { host, socket, views, WebSocket } = live(["a"]);
  socket().serve(goodbye("a", "session_deleted", 4410));
  host.advance(GATHER_MS);
  assert.deepEqual([socket().closedWith, phaseOf(views[0]), host.waiting()], [1000, "unavailable", 0]);
  views[0].retry();
  assert.equal(WebSocket.opened.length, 2);
  socket().open();
  assert.equal(socket().sent.length, 1);
});

test("a refused cursor is dropped with its state; the session starts fresh at once", () => {
  const storage = fakeStorage();
  webStorageKeeper(storage).save("http://host:8700 a", { ...observation(5), session_id: "a" });
  const { sessions, socket, sent } = open();
  const view = sessions.watch("a", { storage: webStorageKeeper(storage) });
  assert.equal(view.snapshot.observation.cursor, cursor("s1", 5), "what was kept is shown meanwhile");
  socket().open();
  socket().serve(refusal("a", "malformed_cursor", 400, sent("subscribe")[0].id));
  assert.deepEqual(sent("subscribe").map((frame) => frame.cursor), [cursor("s1", 5), null]);
  assert.equal(storage.items.size, 0);
  socket().serve(of("a", fresh(6)), of("a", caughtUp(6)));
  assert.equal(phaseOf(view), "resynchronised");
});

test("a refusal that passes is waited for, for this session alone", () => {
  const { host, sessions, socket, sent, views } = live(["a"]);
  const view = sessions.watch("b");
  const refused = () => socket().serve(refusal("b", "store_unavailable", 503, sent("subscribe").at(-1).id));
  refused();
  host.advance(249);
  assert.equal(sent("subscribe").length, 2);
  host.advance(1);
  assert.equal(sent("subscribe").length, 3);
  refused();
  host.advance(499);
  assert.equal(sent("subscribe").length, 3);
  host.advance(1);
  socket().serve(of("b", fresh(1)), of("b", caughtUp(1)));
  assert.deepEqual([phaseOf(views[0]), phaseOf(view)], ["live", "live"]);
});

test("an event that cannot be folded costs its session the state, and the others nothing", () => {
  const storage = fakeStorage();
  const { host, sessions, socket, sent, pong } = open();
  const [one, two] = [sessions.watch("a", { storage: webStorageKeeper(storage) }), sessions.watch("b")];
  socket().open();
  for (const id of ["a", "b"]) socket().serve(of(id, fresh(1)), of(id, caughtUp(1)));
  socket().serve(of("a", { ...event(2), kind: "queue_changed", data: { batches: 7 } }), of("a", event(3)), of("b", event(2)));
  assert.deepEqual(sent("unsubscribe").map((frame) => frame.session_id), ["a"]);
  assert.deepEqual([phaseOf(one), phaseOf(two), seen(two)], ["reconnecting", "live", 2]);
  assert.equal(storage.items.size, 0);
  host.advance(250);
  assert.equal(sent("subscribe").length, 2);
  socket().serve(of("a", event(4)));
  pong();
  assert.deepEqual([sent("subscribe").at(-1).session_id, sent("subscribe").at(-1).cursor], ["a", null]);
  socket().serve(of("a", fresh(5)), of("a", caughtUp(5)), of("a", event(6)));
  assert.deepEqual([phaseOf(one), seen(one)], ["resynchronised", 6]);
});

test("the cursor is stored after the fold, and what was stored is resumed from", () => {
  const storage = fakeStorage();
  const first = open();
  first.sessions.watch("a", { storage: webStorageKeeper(storage) });
  first.socket().open();
  first.socket().serve(of("a", fresh(1)), of("a", caughtUp(1)), of("a", event(2)));
  first.sessions.unwatch("a");
  const second = open();
  const view = second.sessions.watch("a", { storage: webStorageKeeper(storage) });
  assert.equal(seen(view), 2);
  second.socket().open();
  assert.equal(second.sent("subscribe")[0].cursor, cursor("a", 2));
});

test("a state that is known already is shown at once and resumed from", () => {
  const { sessions, socket, sent } = open();
  const view = sessions.watch("a", { observation: of("a", observation(4)) });
  socket().open();
  assert.equal(sent("subscribe")[0].cursor, cursor("a", 4));
  socket().serve(of("a", resumed(4)), of("a", event(5)));
  assert.equal(seen(view), 5);
});

test("a session that was left is asked for again when nothing of it is on its way any more", () => {
  const { host, sessions, socket, sent, pong } = live(["a", "b"]);
  host.wake();
  sessions.unwatch("a");
  const view = sessions.watch("a", { observation: of("a", observation(4)) });
  socket().serve({ type: "pong", id: sent("ping")[0].id }, of("a", gap(9)), of("a", event(10)));
  assert.equal(sent("subscribe").length, 2);
  pong();
  assert.equal(sent("subscribe").at(-1).cursor, cursor("a", 4));
  socket().serve(of("a", resumed(4)), of("a", event(5)), of("a", caughtUp(5)));
  assert.deepEqual([phaseOf(view), seen(view)], ["live", 5]);
});

test("unwatching leaves the session alone; its view stays as it was", () => {
  const { sessions, socket, sent, views, WebSocket } = live(["a", "b"]);
  views[0].close();
  assert.deepEqual(sent("unsubscribe").map((frame) => frame.session_id), ["a"]);
  const before = views[0].snapshot;
  socket().serve(of("a", event(2)), of("b", event(2)));
  assert.equal(views[0].snapshot, before);
  assert.equal(seen(views[1]), 2);
  const again = sessions.watch("a");
  views[0].close();
  assert.notEqual(again, views[0]);
  assert.equal(sent("unsubscribe").length, 1, "a view that was closed does not close its successor");
  assert.equal(WebSocket.opened.length, 1);
});

test("unsubscribed while the connection is away, a session is not asked for again", () => {
  const { host, sessions, socket, sent } = live(["a", "b"]);
  socket().end();
  sessions.unwatch("a");
  host.advance(250);
  socket().open();
  assert.deepEqual(sent("subscribe").map((frame) => frame.session_id), ["b"]);
  assert.deepEqual(sent("unsubscribe"), []);
});

test("unsubscribed while it opens, a session is left once its answer is there", () => {
  const { sessions, socket, sent } = live(["a"]);
  sessions.watch("b");
  sessions.unwatch("b");
  assert.deepEqual(sent("unsubscribe"), []);
  socket().serve(of("b", fresh(1)));
  assert.deepEqual(sent("unsubscribe").map((frame) => frame.session_id), ["b"]);
});

test("wanted again before its answer, a session is left and asked for anew", () => {
  const { sessions, socket, sent, pong } = live(["a"]);
  sessions.watch("b", { observation: of("b", observation(4)) });
  sessions.unwatch("b");
  const view = sessions.watch("b");
  assert.equal(sent("subscribe").length, 2);
  socket().serve(of("b", resumed(4)), of("b", caughtUp(4)), of("b", event(5)));
  pong();
  assert.deepEqual(socket().sent.slice(2).map(({ type, cursor }) => [type, cursor]), [["unsubscribe", undefined], ["ping", undefined], ["subscribe", null]]);
  socket().serve(refusal("b", "not_subscribed", 404, sent("unsubscribe")[0].id));
  assert.equal(view.snapshot.observation, null);
  socket().serve(of("b", fresh(6)), of("b", caughtUp(6)), of("b", event(7)));
  assert.deepEqual([phaseOf(view), seen(view)], ["live", 7]);
});

test("without anything to watch there is no connection", () => {
  const { host, sessions, socket, WebSocket } = open();
  assert.equal(WebSocket.opened.length, 0);
  sessions.watch("a");
  socket().open();
  socket().serve(of("a", fresh(1)), of("a", caughtUp(1)));
  sessions.unwatch("a");
  sessions.watch("b");
  host.advance(GATHER_MS);
  assert.equal(socket().closedWith, undefined, "going from one to another keeps it");
  sessions.unwatch("b");
  host.advance(GATHER_MS);
  assert.deepEqual([socket().closedWith, host.waiting()], [1000, 0]);
  sessions.watch("c");
  assert.equal(WebSocket.opened.length, 2);
});

test("draining: the first goodbye closes the road, and all come back in the server's window", () => {
  const { host, socket, sent, views, WebSocket } = live(["a", "b"]);
  const window = { retry_after_ms: 1000, jitter_ms: 4000 };
  socket().serve(of("b", event(2)), goodbye("a", "draining", 4503, window));
  assert.equal(socket().closedWith, 1000);
  assert.deepEqual(views.map(phaseOf), ["reconnecting", "reconnecting"]);
  host.advance(2999);
  assert.equal(WebSocket.opened.length, 1);
  host.advance(1);
  socket().open();
  assert.deepEqual(sent("subscribe").map((frame) => frame.cursor), [cursor("a", 1), cursor("b", 2)]);
  socket().serve({ type: "goodbye", reason: "draining", code: 4503, retry_after_ms: 7000, jitter_ms: 0 });
  host.advance(6999);
  assert.equal(WebSocket.opened.length, 2);
  host.advance(1);
  assert.equal(WebSocket.opened.length, 3);
});

test("what is refused about the whole is said of every session, and retry asks again", () => {
  const { host, socket, views, WebSocket } = live(["a", "b"]);
  socket().serve({ type: "error", problem: { code: "unauthenticated", status: 401 } });
  socket().end(4401);
  assert.deepEqual(views.map((view) => [phaseOf(view), view.snapshot.problem.code]), Array(2).fill(["unavailable", "unauthenticated"]));
  host.advance(3_600_000);
  assert.equal(WebSocket.opened.length, 1);
  views[0].retry();
  socket().open();
  assert.deepEqual(views.map(phaseOf), ["reconnecting", "reconnecting"]);
  assert.equal(socket().sent.length, 2);
});

test("the list is kept by id and replaced by each index", () => {
  const { sessions, socket, sent } = open();
  const told = [];
  const list = sessions.watchList(({ sessions }) => told.push(sessions?.map((line) => line.session_id).join("")));
  socket().open();
  assert.deepEqual(sent("subscribe").map(({ session_id, cursor, messages }) => [session_id, cursor, messages]), [["*", undefined, undefined]]);
  socket().serve(index(entry("b", 20), entry("a", 10)));
  assert.equal(phaseOf(list), "live");
  const b = list.snapshot.sessions[0];
  socket().serve({ type: "index_changed", session_id: "*", session: entry("a", 30, { status: "running" }) });
  assert.equal(list.snapshot.sessions[1], b);
  socket().serve({ type: "index_changed", session_id: "*", session: entry("c", 40) });
  socket().serve({ type: "index_changed", session_id: "*", removed: "b" }, index(entry("d", 1)));
  assert.deepEqual(told, ["ba", "ab", "cab", "ca", "d"]);
});

test("the list comes anew after a reconnect, and stays shown meanwhile", () => {
  const { host, sessions, socket } = open();
  const list = sessions.watchList();
  socket().open();
  socket().serve(index(entry("a", 1)));
  socket().end();
  assert.deepEqual([phaseOf(list), list.snapshot.sessions.length], ["reconnecting", 1]);
  host.advance(250);
  socket().open();
  socket().serve(index(entry("a", 1), entry("b", 0)));
  assert.deepEqual([phaseOf(list), list.snapshot.sessions.length], ["live", 2]);
  list.close();
  host.advance(GATHER_MS);
  assert.equal(socket().closedWith, 1000);
});

test("waking up asks for a sign of life", () => {
  const { host, socket, sent, views, WebSocket } = live(["a"]);
  host.wake();
  assert.equal(sent("ping").length, 1);
  host.advance(2000 + 250);
  assert.equal(WebSocket.opened.length, 2);
  assert.equal(phaseOf(views[0]), "reconnecting");
  socket().open();
  assert.equal(sent("subscribe")[0].cursor, cursor("a", 1));
});

test("what is no frame at all costs every state", () => {
  const { host, socket, sent, views } = live(["a", "b"]);
  socket().say("{half");
  host.advance(500);
  socket().open();
  assert.deepEqual(sent("subscribe").map((frame) => frame.cursor), [null, null]);
  assert.equal(seen(views[0]), undefined);
});

test("closing stops everything: socket, timers, listeners", () => {
  const { host, sessions, socket } = live(["a", "b"]);
  sessions.close();
  assert.equal(socket().closedWith, 1000);
  assert.deepEqual([host.waiting(), host.watchers()], [0, 0]);
});

test("the list is not a session", () => {
  assert.throws(() => open().sessions.watch("*"), TypeError);
});

/** A server of event streams: every request is kept, and the newest can be served. */
function streams() {
  const requests = [];
  const fetch = async (url, { method, body, headers, signal }) => {
    const request = { url, method, headers, signal, body: JSON.parse(body) };
    requests.push(request);
    const stream = new ReadableStream({ start: (controller) => void (request.controller = controller) });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  };
  const serve = async (...frames) => {
    await settled();
    requests.at(-1).controller.enqueue(new TextEncoder().encode(frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join("")));
    await settled();
  };
  return { requests, fetch, serve };
}

test("without WebSockets the sessions are posted with their cursors, and another set is another stream", async () => {
  const { requests, fetch, serve } = streams();
  const host = fakeHost({ fetch });
  const { sessions } = open({ host, transports: ["sse"], headers: { authorization: "Bearer k" }, messages: 9 });
  const list = sessions.watchList();
  const one = sessions.watch("a", { observation: of("a", observation(4)) });
  host.advance(GATHER_MS);
  await serve(index(entry("a", 1)), of("a", resumed(4)), of("a", caughtUp(4)), of("a", event(5)));
  assert.deepEqual([requests[0].url, requests[0].method, requests[0].headers.authorization], ["http://host:8700/v1/observe", "POST", "Bearer k"]);
  assert.deepEqual(requests.map((request) => request.body), [
    { sessions: { "*": null }, messages: 9 },
    { sessions: { "*": null, a: cursor("a", 4) }, messages: 9 },
  ]);
  assert.deepEqual([phaseOf(list), phaseOf(one), seen(one)], ["live", "live", 5]);

  const [two, three] = [sessions.watch("b"), sessions.watch("c")];
  host.advance(GATHER_MS - 1);
  assert.equal(requests.length, 2);
  host.advance(1);
  assert.equal(requests[1].signal.aborted, true);
  assert.deepEqual(requests[2].body.sessions, { "*": null, a: cursor("a", 5), b: null, c: null });
  await serve(of("a", resumed(5)), of("a", caughtUp(5)), of("b", fresh(1)), of("b", caughtUp(1)), refusal("c", "session_not_found", 404));
  assert.deepEqual([one, two, three].map(phaseOf), ["live", "live", "unavailable"]);

  sessions.unwatch("a");
  await serve(of("a", event(6)));
  assert.equal(seen(one), 5);
  host.advance(GATHER_MS);
  assert.deepEqual(requests[3].body.sessions, { "*": null, b: cursor("b", 1) });
});

test("a stream that rotates is resumed, and a refused cursor costs all of them their states", async () => {
  const { requests, fetch, serve } = streams();
  let refuses = false;
  const refusing = async (url, init) => {
    if (!refuses) return fetch(url, init);
    refuses = false;
    return new Response('{"code":"wrong_session_cursor","status":400}', { status: 400 });
  };
  const host = fakeHost({ fetch: refusing });
  const { sessions } = open({ host, transports: ["sse"] });
  const view = sessions.watch("a");
  await serve(of("a", fresh(1)), of("a", caughtUp(1)), goodbye("a", "rotated", 4504, { retry_after_ms: 0, jitter_ms: 100 }));
  host.advance(50);
  assert.deepEqual(requests[1].body.sessions, { a: cursor("a", 1) });
  refuses = true;
  await serve(goodbye("a", "rotated", 4504, { retry_after_ms: 0, jitter_ms: 100 }));
  host.advance(50);
  await serve(of("a", fresh(5)), of("a", caughtUp(5)));
  assert.deepEqual(requests[2].body.sessions, { a: null });
  assert.equal(phaseOf(view), "resynchronised");
});

test("sockets that bring nothing give way to event streams, with every session", async () => {
  const { requests, fetch, serve } = streams();
  const WebSocket = fakeWebSocket();
  const host = fakeHost({ WebSocket, fetch });
  const { sessions } = open({ host, transports: ["websocket", "sse"] });
  const views = [sessions.watch("a"), sessions.watch("b")];
  for (let round = 0; round < 2; round += 1) {
    WebSocket.opened.at(-1).end(1006);
    host.advance(1000);
  }
  assert.equal(WebSocket.opened.length, 2);
  assert.deepEqual(requests[0].body.sessions, { a: null, b: null });
  await serve(of("a", fresh(1)), of("a", caughtUp(1)), of("b", fresh(1)), of("b", caughtUp(1)));
  assert.deepEqual(views.map(phaseOf), ["live", "live"]);
});

test("a server that does not know the address says so to every session", async () => {
  const host = fakeHost({ fetch: async () => new Response('{"code":"not_found"}', { status: 404 }) });
  const { sessions } = open({ host, transports: ["sse"] });
  const list = sessions.watchList();
  await settled();
  assert.deepEqual([phaseOf(list), list.snapshot.problem.code], ["unavailable", "not_found"]);
});
