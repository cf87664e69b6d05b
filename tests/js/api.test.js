import assert from "node:assert/strict";
import { test } from "node:test";

import { TRIES, createApi } from "../../web/client/api.js";
import { ProblemError, UnreachableError } from "../../web/client/problems.js";
import { fakeHost, settled } from "./fakes.js";

const json = (status, body, headers = {}) =>
  new Response(body === undefined ? null : JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
const lost = () => {
  throw new TypeError("network");
};

/** An API whose server answers from a script, last answer for ever; time moves as fast as anybody waits for it. */
function scripted(...answers) {
  const requests = [];
  let keys = 0;
  const host = fakeHost({
    fetch: async (url, { method, headers, body, signal }) => {
      signal?.throwIfAborted();
      requests.push({ method, url, headers, body: body === undefined ? undefined : JSON.parse(body) });
      return (answers.length > 1 ? answers.shift() : answers[0])();
    },
  });
  const waits = [];
  const { setTimer } = host;
  host.setTimer = (callback, ms) => {
    waits.push(ms);
    return setTimer(callback, ms);
  };
  const api = createApi({ baseUrl: "http://host", host, newKey: () => `key-${(keys += 1)}` });
  const run = async (promise) => {
    let done = false;
    const ended = promise.finally(() => (done = true)).catch(() => {});
    while (!done) {
      await settled();
      host.advance(20_000);
    }
    await ended;
    return promise;
  };
  return { api, requests, waits, run };
}

test("an answer is sent as what it is, and again when nobody knows whether it came", async () => {
  for (const said of ["yes", "", false, null, { a: [1] }]) {
    const { api, requests, run } = scripted(lost, () => json(200, { request_id: "r 1", applied_through: "c" }));
    assert.deepEqual(await run(api.answer("s/1", "r 1", said)), { request_id: "r 1", applied_through: "c" });
    assert.equal(requests.length, 2);
    assert.deepEqual([requests[1].method, requests[1].url], ["POST", "http://host/v1/sessions/s%2F1/answers"]);
    assert.deepEqual(requests[1].body, { request_id: "r 1", answer: said });
  }
});

test("an answer that comes too late is refused and not repeated", async () => {
  const { api, requests } = scripted(() => json(409, { code: "already_answered", status: 409, title: "", retryable: false }));
  await assert.rejects(api.answer("s1", "r1", 1), (error) => error instanceof ProblemError && error.code === "already_answered");
  assert.equal(requests.length, 1);
});

test("a session is created with an object for a body, and once", async () => {
  const { api, requests } = scripted(() => json(201, { session_id: "s1" }));
  assert.deepEqual(await api.createSession(), { session_id: "s1" });
  assert.deepEqual([requests[0].method, requests[0].url, requests[0].body], ["POST", "http://host/v1/sessions", {}]);
});

test("creating a session is not repeated by itself: nobody knows whether it happened", async () => {
  const { api, requests } = scripted(lost);
  await assert.rejects(api.createSession(), UnreachableError);
  assert.equal(requests.length, 1);
});

test("lists take their options as query", async () => {
  const { api, requests } = scripted(() => json(200, { sessions: [], messages: [], next: null }));
  await api.listSessions({ limit: 5, after: "x y", status: undefined });
  await api.listMessages("s/1", { before: "m1", limit: 50 });
  await api.getSession("s1", { messages: 3 });
  assert.deepEqual(requests.map((request) => request.url), [
    "http://host/v1/sessions?limit=5&after=x+y",
    "http://host/v1/sessions/s%2F1/messages?before=m1&limit=50",
    "http://host/v1/sessions/s1?messages=3",
  ]);
});

test("a turn goes under a key, as text", async () => {
  const { api, requests } = scripted(() => json(202, { batch_id: "b1" }));
  const sent = await api.sendTurn("s1", "echo hi");
  assert.deepEqual(sent, { batch: { batch_id: "b1" }, replayed: false, idempotencyKey: "key-1" });
  assert.deepEqual(requests[0].body, { input: "echo hi" });
  assert.equal(requests[0].headers["idempotency-key"], "key-1");
});

test("a turn may be a whole body, and have a key from an earlier try", async () => {
  const { api, requests } = scripted(() => json(200, { batch_id: "b1" }, { "idempotency-replayed": "true" }));
  const sent = await api.sendTurn("s1", { input: { items: [] }, slot_policy: "join" }, { idempotencyKey: "mine" });
  assert.equal(sent.replayed, true);
  assert.deepEqual(requests[0].body, { input: { items: [] }, slot_policy: "join" });
  assert.equal(requests[0].headers["idempotency-key"], "mine");
});

test("an answer that got lost is asked for again under the same key", async () => {
  const { api, requests, run } = scripted(lost, lost, () => json(200, { batch_id: "b1" }, { "idempotency-replayed": "true" }));
  const { batch, replayed } = await run(api.sendTurn("s1", "echo hi"));
  assert.deepEqual([batch.batch_id, replayed], ["b1", true]);
  assert.deepEqual(new Set(requests.map((request) => request.headers["idempotency-key"])), new Set(["key-1"]));
  assert.deepEqual(requests[0].body, requests[2].body);
});

test("a body that broke off is an answer that got lost", async () => {
  const broken = () => new Response('{"batch_id":', { status: 202 });
  const { api, requests, run } = scripted(broken, () => json(200, { batch_id: "b1" }));
  await run(api.sendTurn("s1", "x"));
  assert.equal(requests.length, 2);
});

test("two turns have two keys", async () => {
  const { api, requests } = scripted(() => json(202, {}));
  await api.sendTurn("s1", "x");
  await api.sendTurn("s1", "x");
  assert.deepEqual(requests.map((request) => request.headers["idempotency-key"]), ["key-1", "key-2"]);
});

test("a draining server is waited for as long as it says", async () => {
  const draining = () => json(503, { code: "draining", retryable: true }, { "retry-after": "2" });
  const { api, waits, run } = scripted(draining, () => json(202, {}));
  await run(api.sendTurn("s1", "x"));
  assert.deepEqual(waits, [2000 + 250]);
});

test("after some tries the error says under which key to go on", async () => {
  const { api, requests, run } = scripted(lost);
  const error = await run(api.sendTurn("s1", "x").catch((caught) => caught));
  assert.ok(error instanceof UnreachableError);
  assert.equal(error.idempotencyKey, "key-1");
  assert.equal(requests.length, TRIES);
});

test("a refusal is a typed problem and is not repeated", async () => {
  const problem = { type: "about:blank", title: "Bad", status: 422, detail: "other content", code: "idempotency_key_reused", retryable: false };
  const { api, requests } = scripted(() => json(422, problem));
  const error = await api.sendTurn("s1", "x").catch((caught) => caught);
  assert.ok(error instanceof ProblemError);
  assert.deepEqual([error.status, error.code, error.message, error.retryable], [422, "idempotency_key_reused", "other content", false]);
  assert.deepEqual(error.problem, problem);
  assert.equal(requests.length, 1);
});

test("an error page of something in between is a problem too", async () => {
  const { api } = scripted(() => new Response("<html>Bad gateway", { status: 502, statusText: "Bad Gateway" }));
  const error = await api.createSession().catch((caught) => caught);
  assert.deepEqual([error.code, error.message, error.retryable], ["http_502", "Bad Gateway", true]);
});

test("cancelling is repeated until it is answered", async () => {
  const { api, requests, run } = scripted(lost, () => json(200, { state: "cancelled" }));
  await run(api.cancelBatch("s1", "b/1"));
  await run(api.cancelTurn("s1", { turn_id: "t1" }));
  assert.deepEqual(requests.map(({ method, url, body }) => [method, url, body]), [
    ["DELETE", "http://host/v1/sessions/s1/queue/b%2F1", undefined],
    ["DELETE", "http://host/v1/sessions/s1/queue/b%2F1", undefined],
    ["POST", "http://host/v1/sessions/s1/cancel", { turn_id: "t1" }],
  ]);
});

test("an aborted call stops, also while it waits", async () => {
  const controller = new AbortController();
  const { api, requests } = scripted(lost);
  const sent = api.sendTurn("s1", "x", { signal: controller.signal });
  await settled();
  controller.abort(new Error("enough"));
  await assert.rejects(sent, /enough/);
  assert.equal(requests.length, 1);
});

test("headers of the caller go with every request", async () => {
  let seen;
  const host = fakeHost({ fetch: async (_url, { headers }) => ((seen = headers), json(200, { sessions: [] })) });
  await createApi({ baseUrl: "http://host", headers: { authorization: "Bearer k" }, host }).listSessions();
  assert.deepEqual(seen, { accept: "application/json", authorization: "Bearer k" });
});

test("a command goes under a key of its own and keeps it over every retry", async () => {
  const receipt = { session_id: "s1", batch_id: "b1", source_key: "command:reset_session:key-1" };
  const { api, requests, run } = scripted(lost, () => json(202, receipt));
  const sent = await run(api.sendCommand("s1", { kind: "reset_session", reason: "over" }));
  assert.deepEqual(sent, { receipt, replayed: false, idempotencyKey: "key-1" });
  assert.deepEqual(
    requests.map((request) => [request.method, request.url, request.headers["idempotency-key"]]),
    Array(2).fill(["POST", "http://host/v1/sessions/s1/commands", "key-1"]),
  );
  assert.deepEqual(requests[0].body, { kind: "reset_session", reason: "over" });
});

test("a command that got no answer says under which key it may be sent again", async () => {
  const { api, run } = scripted(lost);
  const error = await run(api.sendCommand("s1", { kind: "reset_session", reason: "" }).catch((caught) => caught));
  assert.equal(error.idempotencyKey, "key-1");
});

test("the rest of a queue is cancelled from a batch on", async () => {
  const { api, requests } = scripted(() => json(200, { cancelled: [], kept: [] }));
  assert.deepEqual(await api.cancelFrom("s1", "b/1"), { cancelled: [], kept: [] });
  assert.deepEqual([requests[0].method, requests[0].url], ["DELETE", "http://host/v1/sessions/s1/queue?from=b%2F1"]);
});

test("work beside the turns: read, stopped, handed over; handing over is not repeated on its own", async () => {
  const { api, requests, run } = scripted(lost, () => json(200, {}), () => json(200, {}), () => json(200, {}), () => json(200, {}), lost);
  await run(api.cancelProcess("p/1", "enough"));
  await run(api.cancelTask("s1", "t/1"));
  await run(api.listProcessEvents("p1", { after: 3, wait: 5 }));
  await run(api.transferTasks("s1", "s2", ["t1"]));
  await assert.rejects(run(api.transferProcesses("s1", "s2", ["p1"])));
  assert.deepEqual(requests.map(({ method, url, body }) => [method, url, body]), [
    ["POST", "http://host/v1/processes/p%2F1/cancel", { reason: "enough" }],
    ["POST", "http://host/v1/processes/p%2F1/cancel", { reason: "enough" }],
    ["DELETE", "http://host/v1/sessions/s1/tasks/t%2F1", undefined],
    ["GET", "http://host/v1/processes/p1/events?after=3&wait=5", undefined],
    ["POST", "http://host/v1/sessions/s1/tasks/transfer", { to_session_id: "s2", task_ids: ["t1"] }],
    ["POST", "http://host/v1/sessions/s1/processes/transfer", { to_session_id: "s2", process_ids: ["p1"] }],
  ]);
});
