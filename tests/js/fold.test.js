import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fold, foldAll, statusOf } from "../../web/client/fold.js";

const vectors = JSON.parse(readFileSync(new URL("../vectors/fold.json", import.meta.url), "utf8"));

for (const { name, snapshot, events, expect } of vectors) {
  test(`vector: ${name}`, () => {
    assert.deepStrictEqual(foldAll(snapshot, events), expect);
  });
}

test("every cut of a vector's events ends in the same state", () => {
  for (const { name, snapshot, events, expect } of vectors) {
    for (let cut = 0; cut <= events.length; cut += 1) {
      const reloaded = JSON.parse(JSON.stringify(foldAll(snapshot, events.slice(0, cut))));
      assert.deepStrictEqual(foldAll(reloaded, events.slice(cut)), expect, `${name}, cut at ${cut}`);
    }
  }
});

test("fold changes neither the observation nor the event", () => {
  for (const { snapshot, events } of vectors) {
    let observation = deepFreeze(structuredClone(snapshot));
    for (const event of events) observation = deepFreeze(fold(observation, deepFreeze(structuredClone(event))));
  }
});

test("the vectors name every kind and every activity type of the wire", () => {
  const events = vectors.flatMap((vector) => vector.events);
  const kinds = new Set(events.map((event) => event.kind));
  const types = new Set(events.filter((event) => event.kind === "turn_activity").map((event) => event.data.event.type));
  const wireKinds = [
    "turn_activity", "committed", "agent_frame_switched", "queue_changed", "process_changed", "task_changed",
    "request_changed", "resident_changed",
  ];
  const wireTypes = [
    "turn_started", "turn_ended", "retracted", "queued_work_started", "model_request_started", "assistant_prose_delta",
    "reasoning_delta", "code_block_started", "code_block_completed", "tool_call_started", "tool_call_completed",
    "submitted_value", "tool_value", "usage", "child_usage", "retry_status", "plugin_runtime", "queued_input_accepted",
    "queued_messages_committed", "error",
  ];
  assert.deepEqual(wireKinds.filter((kind) => !kinds.has(kind)), []);
  assert.deepEqual(wireTypes.filter((type) => !types.has(type)), []);
});

test("a delta shares the transcript and everything else it does not touch", () => {
  const before = running(2000);
  const after = fold(before, delta(11, "word "));
  for (const part of ["read_view", "usage", "tools", "queue", "requests", "processes", "tasks", "policy", "metadata"]) {
    assert.equal(after[part], before[part], part);
  }
  assert.equal(after.live.tool_calls, before.live.tool_calls);
  assert.equal(after.live.input, before.live.input);
});

test("a delta leaves finished segments as they are", () => {
  let observation = running(1);
  for (const correlation of ["r1", "r2", "r3"]) observation = fold(observation, delta(11, "text", correlation));
  const after = fold(observation, delta(12, " more", "r3"));
  assert.equal(after.live.segments[0], observation.live.segments[0]);
  assert.equal(after.live.segments[1], observation.live.segments[1]);
  assert.equal(after.live.segments[2].text, "text more");
});

test("a commit shares the messages that were there", () => {
  const before = running(500);
  const message = { message_id: "new", role: "assistant", content: "x", at_ms: 1 };
  const after = fold(before, {
    ...delta(11, ""),
    kind: "committed",
    data: { messages: [message], usage_delta: { totals: {}, by_model: {} }, agent_frame_id: "initial", turn_index: 2, outcome: { status: "completed" } },
  });
  assert.equal(after.read_view.messages.length, 501);
  before.read_view.messages.forEach((kept, index) => assert.equal(after.read_view.messages[index], kept));
  assert.equal(before.read_view.messages.length, 500);
});

test("an event that says nothing about a part keeps that part, also when unknown", () => {
  const before = running(3);
  const after = fold(before, { ...delta(11, ""), kind: "constellation_changed", data: { live: null } });
  assert.equal(after.live, before.live);
  assert.notEqual(after.cursor, before.cursor);
});

test("fields of a newer server survive the fold", () => {
  const after = fold({ ...running(1), constellation: { stars: 7 } }, delta(11, "x"));
  assert.deepEqual(after.constellation, { stars: 7 });
});

test("status follows one rule: waiting, running, queued, idle", () => {
  const request = [{}];
  const claimed = [{ state: "pending" }, { state: "claimed" }];
  const pending = [{ state: "pending" }];
  assert.equal(statusOf({ requests: request, live: {}, queue: claimed }), "waiting");
  assert.equal(statusOf({ requests: [], live: {}, queue: [] }), "running");
  assert.equal(statusOf({ requests: [], live: null, queue: claimed }), "running");
  assert.equal(statusOf({ requests: [], live: null, queue: pending }), "queued");
  assert.equal(statusOf({ requests: [], live: null, queue: [] }), "idle");
});

function running(messages) {
  const snapshot = vectors[0].snapshot;
  const list = Array.from({ length: messages }, (_, at_ms) => ({ message_id: `m${at_ms}`, role: "user", content: "x", at_ms }));
  const started = { type: "turn_started", turn_id: "t", attempt: 1, boundary: "idle", input: [] };
  return fold(
    { ...snapshot, read_view: { ...snapshot.read_view, messages: list } },
    { ...delta(10, ""), data: { id: "a0", correlation_id: "a0", event: started } },
  );
}

function delta(position, text, correlation_id = "r1") {
  return {
    type: "event",
    session_id: "demo",
    cursor: `sl1:3:4:${position}:demo`,
    revision: 4,
    turn_id: "t",
    at_ms: position,
    kind: "turn_activity",
    data: { id: `a${position}`, correlation_id, event: { type: "assistant_prose_delta", text } },
  };
}

function deepFreeze(value) {
  if (value !== null && typeof value === "object") {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
