import assert from "node:assert/strict";
import { test } from "node:test";

import { CEILING_MS } from "../../web/client/backoff.js";
import { connection, deadlineOf, phaseOf } from "../../web/client/connection.js";
import { FIRST_FRAME_MS, PONG_MS, SOCKET_SILENCE_MS, STREAM_SILENCE_MS, STREAM_STALE_MS } from "../../web/client/link.js";
import { MARK_MS } from "../../web/client/track.js";
import { step } from "../../web/client/step.js";
import { caughtUp, event, fresh, gap, resumed } from "./fakes.js";

const BOTH = ["websocket", "sse"];
const STAGES = ["idle", "opening", "streaming", "waiting", "ended"];
const PHASES = ["connecting", "live", "reconnecting", "resynchronised", "unavailable"];

/** Walks a machine through inputs; `["frame", …]` and `["closed", …]` are of the current connection. */
function walk(state, inputs, now = 0, chance = 0.5) {
  let effects = [];
  for (const input of inputs) [state, effects] = step(state, ofCurrent(state, input), now, chance);
  return [state, effects];
}

function ofCurrent({ generation }, input) {
  if (typeof input === "string") return { type: input, generation };
  if (input.type === "closed") return { generation, ...input };
  return ["start", "stop", "retry", "tick", "wake", "settle"].includes(input.type) ? input : { type: "frame", generation, frame: input };
}

const closed = (end) => ({ type: "closed", end });
const live = (options = {}) => walk(connection({ transports: BOTH, ...options }), ["start", fresh(1), caughtUp(1)])[0];
const types = (effects) => effects.map((effect) => effect.type);

test("it begins by opening a WebSocket, fresh", () => {
  const [state, effects] = walk(connection({ transports: BOTH }), ["start"]);
  assert.deepEqual(effects, [{ type: "open", generation: 1, transport: "websocket", fresh: true }]);
  assert.equal(phaseOf(state), "connecting");
});

test("with a state at hand it opens to resume", () => {
  const [, effects] = walk(connection({ transports: BOTH, remembers: true }), ["start"]);
  assert.equal(effects[0].fresh, false);
});

test("starting twice opens once", () => {
  const [, effects] = walk(connection({ transports: BOTH }), ["start", "start"]);
  assert.deepEqual(effects, []);
});

test("it is live when it has caught up, not when the first frame came", () => {
  const [first] = walk(connection({ transports: BOTH }), ["start", fresh(1)]);
  assert.equal(phaseOf(first), "connecting");
  assert.equal(phaseOf(walk(first, [caughtUp(1)])[0]), "live");
});

test("events and snapshots are handed on to be folded, control frames are not", () => {
  const accepted = [fresh(1), gap(2), event(3)].map((frame) => types(walk(live(), [frame])[1]));
  assert.deepEqual(accepted, [["accept"], ["accept"], ["accept"]]);
  for (const frame of [resumed(1), caughtUp(1), { type: "pong" }, { type: "heartbeat" }, { type: "auth_expiring" }, { type: "new_one" }]) {
    assert.deepEqual(walk(live(), [frame])[1], [], frame.type);
  }
});

test("a lost connection is waited for, then resumed", () => {
  const [state, effects] = walk(live(), [closed({ code: 1006 })], 1000, 0.5);
  assert.equal(phaseOf(state), "reconnecting");
  assert.deepEqual(effects, []);
  assert.equal(deadlineOf(state), 1250);
  const [, again] = walk(state, ["tick"], 1250);
  assert.deepEqual(again, [{ type: "open", generation: 2, transport: "websocket", fresh: false }]);
});

test("a tick before its time does nothing", () => {
  const [state] = walk(live(), [closed({})], 1000, 0.5);
  assert.deepEqual(walk(state, ["tick"], 1249)[1], []);
});

test("waits grow until there is progress, and an open socket is none", () => {
  let state = live();
  const waits = [];
  for (let round = 0; round < 8; round += 1) {
    [state] = walk(state, [closed({})], 0, 1);
    waits.push(deadlineOf(state));
    [state] = walk(state, ["tick", resumed(1)], CEILING_MS);
  }
  assert.deepEqual(waits.slice(0, 3), [500, 1000, 2000]);
  assert.equal(waits.at(-1), CEILING_MS);
  [state] = walk(state, [caughtUp(1), closed({})], 0, 1);
  assert.equal(deadlineOf(state), 500);
});

test("late news of a replaced connection is ignored", () => {
  const [state] = walk(live(), [closed({}), "wake"]);
  for (const late of [{ type: "frame", frame: fresh(9) }, { type: "closed", end: { code: 4404 } }, { type: "garbled" }, { type: "alive" }]) {
    assert.deepEqual(step(state, { ...late, generation: 1 }, 0, 0.5), [state, []], late.type);
  }
});

test("eight seconds without a first frame are enough", () => {
  const [state] = walk(connection({ transports: BOTH }), ["start"], 0);
  assert.equal(deadlineOf(state), FIRST_FRAME_MS);
  const [next, effects] = walk(state, ["tick"], FIRST_FRAME_MS);
  assert.deepEqual(effects, [{ type: "close", generation: 1 }]);
  assert.equal(next.stage, "waiting");
});

test("server-sent events get a try after two WebSockets that brought nothing", () => {
  assert.deepEqual(transportsTried(connection({ transports: BOTH }), 3), ["websocket", "websocket", "sse"]);
});

test("a road that fails alike says that the server is away, and WebSocket comes first again", () => {
  assert.deepEqual(transportsTried(connection({ transports: BOTH }), 6), ["websocket", "websocket", "sse", "websocket", "websocket", "sse"]);
});

test("where a WebSocket has worked, a server that is away does not change the road", () => {
  assert.deepEqual(new Set(transportsTried(live(), 6)), new Set(["websocket"]));
});

test("a refusal with a code does not count against WebSocket", () => {
  assert.deepEqual(transportsTried(connection({ transports: BOTH }), 5, { code: 1013 }), Array(5).fill("websocket"));
});

test("after server-sent events worked, WebSocket gets one try when they end", () => {
  let [state] = walk(connection({ transports: BOTH }), ["start", closed({}), "wake", closed({}), "wake", fresh(1), caughtUp(1)]);
  assert.equal(state.transport, "sse");
  [state] = walk(state, [closed({}), "wake"]);
  assert.equal(state.transport, "websocket");
  [state] = walk(state, [closed({}), "wake"]);
  assert.equal(state.transport, "sse");
});

test("a place with one transport uses it for ever", () => {
  assert.deepEqual(transportsTried(connection({ transports: ["websocket"] }), 4), Array(4).fill("websocket"));
  assert.deepEqual(transportsTried(connection({ transports: ["sse"] }), 4), Array(4).fill("sse"));
  assert.throws(() => connection({ transports: [] }), TypeError);
});

test("a goodbye is obeyed: closed from here, back in the server's window", () => {
  const goodbye = { type: "goodbye", reason: "draining", code: 4503, retry_after_ms: 1000, jitter_ms: 4000, cursor: "c" };
  const [state, effects] = walk(live(), [goodbye], 100, 0.5);
  assert.deepEqual(effects, [{ type: "close", generation: 1 }]);
  assert.equal(deadlineOf(state), 100 + 1000 + 2000);
  assert.equal(phaseOf(state), "reconnecting");
});

test("a refused stream's Retry-After is waited for", () => {
  const [state] = walk(connection({ transports: ["sse"] }), ["start", closed({ status: 503, retryAfterMs: 7000 })], 0, 0);
  assert.equal(deadlineOf(state), 7000);
});

for (const code of [4401, 4403, 4404, 4410, 4413, 4499, 1008]) {
  test(`close code ${code} ends it until somebody says retry`, () => {
    const [state, effects] = walk(live(), [closed({ code })]);
    assert.equal(phaseOf(state), "unavailable");
    assert.deepEqual(effects, []);
    assert.deepEqual(walk(state, ["wake"])[1], []);
    assert.equal(walk(state, ["retry"])[1][0].type, "open");
  });
}

for (const code of [undefined, 1000, 1001, 1006, 1009, 1011, 1012, 1013, 4500, 4501, 4502, 4503, 4504, 4999, 3000]) {
  test(`close code ${code} is retried with the cursor`, () => {
    const [state] = walk(live(), [closed({ code })]);
    assert.equal(state.stage, "waiting");
    assert.equal(state.remembers, true);
  });
}

for (const [status, stage] of [[401, "ended"], [403, "ended"], [404, "ended"], [410, "ended"], [400, "ended"], [408, "waiting"], [429, "waiting"], [500, "waiting"], [503, "waiting"], [200, "waiting"]]) {
  test(`a stream refused with ${status} leaves it ${stage}`, () => {
    assert.equal(walk(connection({ transports: ["sse"] }), ["start", closed({ status })])[0].stage, stage);
  });
}

for (const code of ["malformed_cursor", "wrong_session_cursor"]) {
  const error = { type: "error", problem: { code, status: 400 } };

  test(`${code} on a WebSocket drops the cursor and starts fresh at once`, () => {
    const [state, effects] = walk(connection({ transports: BOTH, remembers: true }), ["start", error, closed({ code: 4400 })]);
    assert.deepEqual(types(effects), ["forget", "open"]);
    assert.equal(effects[1].fresh, true);
    assert.equal(phaseOf(state), "connecting");
  });

  test(`${code} over HTTP drops the cursor and starts fresh at once`, () => {
    const end = { status: 400, problem: { code } };
    const [, effects] = walk(connection({ transports: ["sse"], remembers: true }), ["start", closed(end)]);
    assert.deepEqual(types(effects), ["forget", "open"]);
  });

  test(`${code} of a fresh start ends it: there is nothing left to drop`, () => {
    const [state] = walk(connection({ transports: BOTH }), ["start", error, closed({ code: 4400 })]);
    assert.equal(state.stage, "ended");
    assert.equal(state.problem.code, code);
  });
}

test("a state that had to be given up counts as resynchronised when its successor came", () => {
  const error = { type: "error", problem: { code: "wrong_session_cursor" } };
  const [state] = walk(connection({ transports: BOTH, remembers: true }), ["start", error, closed({ code: 4400 }), fresh(5), caughtUp(5)]);
  assert.equal(phaseOf(state), "resynchronised");
  assert.equal(state.resynchronised, 1);
});

test("a deleted session ends it, with the reason", () => {
  const [state, effects] = walk(live(), [{ type: "goodbye", reason: "session_deleted", code: 4410, cursor: "c" }]);
  assert.equal(phaseOf(state), "unavailable");
  assert.equal(state.problem.code, "session_deleted");
  assert.deepEqual(types(effects), ["close"]);
});

test("a gap as first frame leaves a mark once caught up", () => {
  const [lost] = walk(live(), [closed({}), "wake"]);
  const [gapped, effects] = walk(lost, [gap(7)]);
  assert.deepEqual(types(effects), ["accept"]);
  assert.equal(phaseOf(gapped), "reconnecting");
  const [state] = walk(gapped, [caughtUp(7)]);
  assert.equal(phaseOf(state), "resynchronised");
  assert.equal(state.resynchronised, 1);
});

test("a gap in mid-stream leaves a mark at once, without another caught_up", () => {
  const [state] = walk(live(), [gap(7)]);
  assert.equal(phaseOf(state), "resynchronised");
  assert.equal(walk(state, [event(8)])[1][0].type, "accept");
});

test("the mark fades with the next input", () => {
  assert.equal(phaseOf(walk(live(), [gap(7), "settle"])[0]), "live");
});

test("the mark fades after a while", () => {
  const [state] = walk(live(), [gap(7)], 1000);
  assert.equal(phaseOf(walk(state, ["tick"], 1000 + MARK_MS - 1)[0]), "resynchronised");
  assert.equal(phaseOf(walk(state, [{ type: "pong" }], 1000 + MARK_MS - 1)[0]), "resynchronised");
  assert.equal(phaseOf(walk(state, ["tick"], 1000 + MARK_MS)[0]), "live");
});

test("the mark survives another loss", () => {
  const [state] = walk(live(), [gap(7), closed({}), "wake"]);
  assert.equal(phaseOf(state), "reconnecting");
  assert.equal(phaseOf(walk(state, [resumed(7), caughtUp(7)])[0]), "resynchronised");
});

test("a wake-up does not wait for the backoff", () => {
  const [state] = walk(live(), [closed({})], 0, 1);
  assert.deepEqual(types(walk(state, ["wake"], 1)[1]), ["open"]);
});

test("a wake-up asks a WebSocket for a sign of life, once", () => {
  const [state, effects] = walk(live(), ["wake"], 5000);
  assert.deepEqual(effects, [{ type: "ping", generation: 1 }]);
  assert.equal(deadlineOf(state), 5000 + PONG_MS);
  assert.deepEqual(walk(state, ["wake"], 5001)[1], []);
});

test("any frame is a sign of life", () => {
  for (const frame of [{ type: "pong", id: "1" }, event(2)]) {
    const [state] = walk(walk(live(), ["wake"], 5000)[0], [frame], 5100);
    assert.equal(phaseOf(state), "live");
    assert.equal(deadlineOf(state), 5100 + SOCKET_SILENCE_MS);
  }
});

test("without one in two seconds the connection is replaced", () => {
  const [asked] = walk(live(), ["wake"], 5000);
  const [state, effects] = walk(asked, ["tick"], 5000 + PONG_MS, 0);
  assert.deepEqual(effects, [{ type: "close", generation: 1 }]);
  assert.equal(phaseOf(state), "reconnecting");
});

test("half a minute of silence on a WebSocket is asked about", () => {
  const [, effects] = walk(live(), ["tick"], SOCKET_SILENCE_MS);
  assert.deepEqual(types(effects), ["ping"]);
});

test("server-sent events that stopped commenting are replaced", () => {
  const [state] = walk(connection({ transports: ["sse"] }), ["start", fresh(1), caughtUp(1)]);
  assert.deepEqual(types(walk(state, ["wake"], STREAM_STALE_MS)[1]), []);
  assert.deepEqual(types(walk(state, ["wake"], STREAM_STALE_MS + 1)[1]), ["close"]);
  assert.deepEqual(types(walk(state, ["tick"], STREAM_SILENCE_MS)[1]), ["close"]);
  const [commented] = walk(state, ["alive"], STREAM_STALE_MS);
  assert.deepEqual(types(walk(commented, ["wake"], STREAM_STALE_MS + 1)[1]), []);
});

test("what cannot be understood is not skipped: state and cursor are given up", () => {
  const [state, effects] = walk(live(), ["garbled"]);
  assert.deepEqual(types(effects), ["close", "forget"]);
  assert.equal(state.remembers, false);
  const [, again] = walk(state, ["wake"]);
  assert.equal(again[0].fresh, true);
});

test("an event before the first frame is not understood", () => {
  const [state, effects] = walk(connection({ transports: BOTH }), ["start", event(3)]);
  assert.deepEqual(types(effects), ["close", "forget"]);
  assert.equal(state.stage, "waiting");
});

test("stopping closes, and nothing moves it afterwards but start", () => {
  const [state, effects] = walk(live(), ["stop"]);
  assert.deepEqual(types(effects), ["close"]);
  assert.equal(state.stage, "idle");
  assert.equal(deadlineOf(state), null);
  for (const input of ["wake", "tick", "retry", event(2), closed({ code: 4404 })]) assert.deepEqual(walk(state, [input])[1], []);
  assert.deepEqual(types(walk(state, ["start"])[1]), ["open"]);
});

test("every input in every state gives a legal state", () => {
  const inputs = [
    "start", "stop", "retry", "tick", "wake", "settle", "alive", "garbled",
    fresh(1), gap(2), resumed(1), caughtUp(1), event(3), { type: "pong" }, { type: "heartbeat" }, { type: "unheard_of" },
    { type: "error", problem: { code: "malformed_cursor" } }, { type: "error" },
    { type: "goodbye", code: 4503, reason: "draining", retry_after_ms: 1, jitter_ms: 1 }, { type: "goodbye", code: 4410, reason: "session_deleted" },
    { type: "goodbye" }, closed({}), closed({ code: 1006 }), closed({ code: 4400 }), closed({ code: 4404 }), closed({ status: 503 }),
    closed({ status: 400, problem: { code: "malformed_cursor" } }), closed(undefined),
  ];
  const seen = new Set();
  let frontier = [["websocket"], ["sse"], BOTH].flatMap((transports) =>
    [true, false].map((remembers) => connection({ transports, remembers })),
  );
  for (let depth = 0; depth < 5 && frontier.length; depth += 1) {
    const next = [];
    for (const state of frontier) {
      for (const input of inputs) {
        for (const now of [0, 60_000]) {
          const before = JSON.stringify(state);
          const [after, effects] = step(Object.freeze({ ...state }), ofCurrent(state, input), now, 0.5);
          assert.equal(JSON.stringify(state), before);
          assertLegal(after, effects, state);
          const key = JSON.stringify({ ...after, generation: 0, attempt: Math.min(after.attempt, 2), resynchronised: 0 });
          if (seen.has(key)) continue;
          seen.add(key);
          next.push(after);
        }
      }
    }
    frontier = next;
  }
  assert.ok(seen.size > 200, `only ${seen.size} states were reached`);
});

function assertLegal(state, effects, before) {
  assert.ok(STAGES.includes(state.stage), state.stage);
  assert.ok(PHASES.includes(phaseOf(state)));
  assert.ok(state.generation >= before.generation);
  assert.equal(state.retryAt !== null, state.stage === "waiting");
  assert.equal(state.firstFrameBy !== null, state.stage === "opening");
  if (state.stage !== "streaming") assert.deepEqual([state.pongBy, state.silentAt, state.caughtUp], [null, null, false]);
  if (state.stage === "streaming") assert.ok(state.pongBy !== null || state.silentAt !== null, "silence is watched");
  if (state.stage !== "idle" && state.stage !== "ended") assert.notEqual(deadlineOf(state), null, "it cannot hang");
  const opens = effects.filter((effect) => effect.type === "open");
  assert.ok(opens.length <= 1);
  for (const open of opens) {
    assert.equal(open.generation, state.generation);
    assert.equal(open.generation, before.generation + 1);
    assert.equal(open.fresh, !state.remembers);
    assert.ok(state.transports.includes(open.transport));
    assert.equal(effects.at(-1), open, "the old connection is closed before the new one is opened");
  }
  const leaves = ["opening", "streaming"].includes(before.stage) && !["opening", "streaming"].includes(state.stage);
  if (effects.some((effect) => effect.type === "close")) assert.ok(leaves);
}

function transportsTried(state, count, end = {}) {
  const tried = [];
  if (state.stage === "idle") [state] = walk(state, ["start"]);
  else [state] = walk(state, [closed(end), "wake"]);
  for (let round = 0; round < count; round += 1) {
    tried.push(state.transport);
    [state] = walk(state, [closed(end), "wake"]);
  }
  return tried;
}
