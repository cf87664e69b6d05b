import assert from "node:assert/strict";
import { test } from "node:test";

import { ProblemError } from "../../web/client/problems.js";
import { Tail } from "../../web/console/tail.js";
import { portionOf, processItem, saidIn, taskItem } from "../../web/console/work.js";
import { compact } from "../../web/console/words.js";
import { fakeHost, settled } from "./fakes.js";

const event = (sequence) => ({ sequence, event_type: "progress", payload: { sequence }, occurred_at_ms: 0 });

/** A server with one process: it has logged `count` events; a question that waits is answered by `grow`. */
function server(count) {
  const state = { count, status: "running", asked: [], trouble: null, waiting: [] };
  const listed = (after, limit) => {
    const events = Array.from({ length: state.count }, (_, index) => event(index + 1)).filter(({ sequence }) => sequence > after);
    return { events: events.slice(0, limit), next: null };
  };
  const api = {
    async getProcess() {
      if (state.trouble) throw state.trouble;
      return { status: state.status, last_sequence: state.count };
    },
    listProcessEvents(_id, { after, wait, limit, signal }) {
      state.asked.push({ after, wait });
      const now = listed(after, limit);
      if (now.events.length > 0 || wait === 0) return Promise.resolve(now);
      return new Promise((resolve, reject) => {
        state.waiting.push(() => resolve(listed(after, limit)));
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    },
  };
  const grow = (by, status = state.status) => {
    Object.assign(state, { count: state.count + by, status });
    for (const answer of state.waiting.splice(0)) answer();
  };
  return { api, state, grow };
}

/** @returns {{tail: Tail, host: ReturnType<typeof fakeHost>, sequences: () => number[]}} */
async function opened(api) {
  const host = fakeHost();
  const tail = new Tail(api, "p1", () => {}, host);
  await settled();
  return { tail, host, sequences: () => tail.events.map(({ sequence }) => sequence) };
}

test("a tail begins with the newest lines, and goes on as they come", async () => {
  const { api, state, grow } = server(500);
  const { tail, host, sequences } = await opened(api);
  assert.deepEqual([sequences()[0], sequences().length], [301, 200]);
  host.advance(250);
  await settled();
  grow(1);
  await settled();
  assert.deepEqual([sequences()[0], sequences().at(-1)], [302, 501]);
  assert.deepEqual(state.asked.map(({ after }) => after), [300, 500]);
  tail.close();
  await tail.done;
});

test("it ends with the process, after the last line", async () => {
  const { api, grow } = server(1);
  const { tail, host, sequences } = await opened(api);
  host.advance(250);
  await settled();
  grow(2, "completed");
  await settled();
  host.advance(250);
  await tail.done;
  assert.deepEqual(sequences(), [1, 2, 3]);
  assert.equal(tail.ended, "completed");
  assert.equal(host.waiting(), 0);
});

test("trouble that passes is waited for, and what is refused ends it", async () => {
  const { api, state } = server(1);
  state.trouble = new ProblemError(503, { code: "store_unavailable" });
  const { tail, host, sequences } = await opened(api);
  assert.equal(tail.error, state.trouble);
  state.trouble = null;
  host.advance(2_000);
  await settled();
  assert.deepEqual([tail.error, sequences()], [null, [1]]);
  state.trouble = new ProblemError(404, { code: "process_not_found" });
  host.advance(250);
  await tail.done;
  assert.equal(tail.error, state.trouble);
});

test("a tail that is closed asks no more, whether it waits for the server or for time", async () => {
  const { api } = server(0);
  const waiting = await opened(api);
  waiting.tail.close();
  await waiting.tail.done;
  const { api: other } = server(1);
  const calm = await opened(other);
  calm.tail.close();
  await calm.tail.done;
  assert.equal(calm.host.waiting(), 0);
});

test("a portion is a number of a number; all else is no bar", () => {
  assert.deepEqual(portionOf({ done: 2, total: 5 }), { done: 2, total: 5 });
  assert.deepEqual(portionOf({ done: 0, total: 1, more: 1 }), { done: 0, total: 1 });
  for (const other of [undefined, null, 3, "half", [], {}, { done: 1 }, { done: 2, total: 1 }, { done: 0, total: 0 }, { done: "1", total: 2 }]) {
    assert.equal(portionOf(other), null);
  }
});

test("work is called by its label, and is stopping once somebody wants its end", () => {
  const summary = { process_id: "p1", status: "running", kind: "function", label: "count", cancel_requested: false, descriptor: {} };
  const item = { sort: "process", id: "p1", name: "count", kind: "function", state: "running", progress: undefined };
  assert.deepEqual(processItem(summary), item);
  assert.equal(processItem({ ...summary, cancel_requested: true }).state, "stopping");
  assert.equal(processItem({ ...summary, cancel_requested: true, status: "cancelled" }).state, "cancelled");
  const task = { task_id: "t", kind: "monitor", state: "waiting", progress: "half" };
  assert.deepEqual(taskItem(task), { sort: "task", id: "t", name: "t", kind: "monitor", state: "waiting", progress: "half" });
  assert.equal(taskItem({ ...task, state: "cancel_requested" }).state, "stopping");
});

test("a line of a log is one line, and not longer than a few", () => {
  assert.equal(compact({ a: [1] }), '{"a":[1]}');
  assert.equal(compact("one\n  two\n"), "one ⏎ two");
  assert.equal(compact(null), "");
  assert.equal(compact("x".repeat(1000)).length, 400);
});

test("what a command wrote is shown as it wrote it", () => {
  const output = (payload) => saidIn({ event_type: "output", payload });
  assert.deepEqual(output({ stream: "stderr", text: "a\n  b\n" }), ["stderr", "a\n  b"]);
  assert.deepEqual(output({ text: "a" }), ["output", '{"text":"a"}']);
  assert.deepEqual(output(null), ["output", ""]);
  assert.deepEqual(saidIn({ event_type: "progress", payload: { done: 1 } }), ["progress", '{"done":1}']);
});
