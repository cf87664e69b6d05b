/**
 * Random lives of a dashboard: sessions come and go, roads break, logs are trimmed, answers are late. Whatever happened, in the end
 * every view shows what the server has, and no event was folded twice or left out on the way.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { openSessions } from "../../web/client/sessions.js";
import { event, fakeHost, fresh, gap, of } from "./fakes.js";

const IDS = ["a", "b", "c", "d"];

/** A small generator (mulberry32), so that a world can be seen again. */
function chances(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const at = (sessionId, position, more = {}) => {
  const policy = { positions: Array.from({ length: position }, (_, index) => index + 1) };
  return of(sessionId, { ...fresh(position).observation, policy, ...more });
};
const positionOf = (cursor) => Number(cursor.split(":")[3]);

/** A server as the wire has it: one subscription a session, refused while it is still read, what is on its way still comes. */
class Server {
  positions = new Map(IDS.map((id) => [id, 1]));
  trimmed = new Map(IDS.map((id) => [id, 0]));
  roads = [];
  constructor(random) {
    const server = this;
    this.random = random;
    this.WebSocket = class {
      static OPEN = 1;
      readyState = 0;
      opening = new Map();
      shown = new Set();
      onTheWay = [];
      constructor() {
        server.roads.push(this);
      }
      open() {
        this.readyState = 1;
        this.onopen();
      }
      send(text) {
        server.take(this, JSON.parse(text));
      }
      close() {
        this.readyState = 3;
      }
    };
  }

  take(road, { type, session_id, cursor, id }) {
    const refuse = (code, status) => road.onTheWay.push({ type: "error", session_id, id, problem: { code, status } });
    if (type === "ping") return road.onTheWay.push({ type: "pong", id });
    if (type === "unsubscribe") {
      assert.ok(!road.opening.has(session_id), "nobody leaves before the answer");
      return road.shown.delete(session_id) || refuse("not_subscribed", 404);
    }
    if (road.shown.has(session_id) || road.opening.has(session_id)) assert.fail("subscribed twice");
    if (this.random() < 0.1) return refuse("store_unavailable", 503);
    road.opening.set(session_id, cursor ?? null);
  }

  /** What was being read has been. */
  answer(road) {
    for (const [id, cursor] of road.opening) {
      const now = this.positions.get(id);
      const [from, frames] = [cursor === null ? now : positionOf(cursor), []];
      if (cursor === null) frames.push({ ...of(id, fresh(now)), observation: at(id, now) });
      else if (from < this.trimmed.get(id)) frames.push({ ...of(id, gap(now)), observation: at(id, now) });
      else {
        frames.push(of(id, { type: "resumed", cursor }));
        frames[0].cursor = cursor;
        for (let next = from + 1; next <= now; next += 1) frames.push(this.eventOf(id, next));
      }
      road.onTheWay.push(...frames, of(id, { type: "caught_up", cursor: `sl1:1:1:${now}:s1` }));
      road.shown.add(id);
    }
    road.opening.clear();
  }

  eventOf(id, position) {
    return of(id, { ...event(position), kind: "test_event", data: { position } });
  }

  emit(id) {
    const position = this.positions.get(id) + 1;
    this.positions.set(id, position);
    for (const road of this.roads) if (road.readyState === 1 && road.shown.has(id)) road.onTheWay.push(this.eventOf(id, position));
  }

  /** A subscriber that read too slowly: what it has not got is replaced by a snapshot. */
  lag(id) {
    this.positions.set(id, this.positions.get(id) + 3);
    const now = this.positions.get(id);
    const frame = { ...of(id, gap(now)), observation: at(id, now) };
    for (const road of this.roads) if (road.readyState === 1 && road.shown.has(id)) road.onTheWay.push(frame);
  }

  deliver(road, count) {
    for (const frame of road.onTheWay.splice(0, count)) if (road.readyState === 1) road.onmessage({ data: JSON.stringify(frame) });
  }
}

function live(seed) {
  const random = chances(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const server = new Server(random);
  const host = fakeHost({ random, WebSocket: server.WebSocket });
  const sessions = openSessions({ baseUrl: "http://host", transports: ["websocket"], host });
  /** What is watched: the view, and where its last folded frame left it. */
  const watched = new Map();
  const watch = (id, observation) => {
    const story = { position: observation ? positionOf(observation.cursor) : null };
    const onFrame = (frame) => {
      const position = positionOf(frame.cursor);
      if (frame.type === "event") assert.equal(position, story.position + 1, `seed ${seed}: ${id} folds ${position} on ${story.position}`);
      story.position = position;
    };
    story.view = sessions.watch(id, { observation, onFrame });
    watched.set(id, story);
  };
  const road = () => server.roads.at(-1);
  const acts = [
    () => {
      const id = pick(IDS);
      if (!watched.has(id)) watch(id, random() < 0.3 ? at(id, Math.ceil(random() * server.positions.get(id))) : undefined);
    },
    () => {
      const id = pick(IDS);
      sessions.unwatch(id);
      watched.delete(id);
    },
    () => server.emit(pick(IDS)),
    () => server.emit(pick(IDS)),
    () => random() < 0.3 && server.lag(pick(IDS)),
    () => road()?.readyState === 0 && road().open(),
    () => road() && server.answer(road()),
    () => road() && server.deliver(road(), Math.ceil(random() * 5)),
    () => road() && server.deliver(road(), 50),
    () => host.advance(random() * 400),
    () => {
      if (random() > 0.3 || !road() || road().readyState > 1) return;
      road().readyState = 3;
      road().onclose({ code: 1006 });
    },
    () => {
      const id = pick(IDS);
      if (random() < 0.2) server.trimmed.set(id, server.positions.get(id));
    },
    () => random() < 0.1 && host.wake(),
  ];
  for (let turn = 0; turn < 300; turn += 1) pick(acts)();
  for (let round = 0; round < 40; round += 1) {
    host.advance(500);
    if (road()?.readyState === 0) road().open();
    if (road()) server.answer(road());
    if (road()) server.deliver(road(), Infinity);
  }
  for (const [id, { view }] of watched) {
    const { phase, observation } = view.snapshot;
    assert.ok(["live", "resynchronised"].includes(phase), `seed ${seed}: ${id} is ${phase}`);
    assert.equal(positionOf(observation.cursor), server.positions.get(id), `seed ${seed}: ${id}`);
  }
  const subscribed = road()?.readyState === 1 ? [...road().shown].sort() : [];
  assert.deepEqual(subscribed, [...watched.keys()].sort(), `seed ${seed}: what is not wanted is not watched`);
}

test("in three hundred random lives every view ends where the server is, and folds without a hole", () => {
  for (let seed = 1; seed <= 300; seed += 1) live(seed);
});
