import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamParser } from "../../web/client/event_stream.js";

const STREAM =
  ": a comment\r\nretry: 500\r\nid: c1\n\nevent: turn_activity\nid: c2\ndata: {\"a\":1}\n\n" +
  "data:no space\rdata: second line\r\ridempotent\ndata\n\n:\n\nevent: committed\ndata: café 🔭\r\n\r\n";
const EVENTS = [
  { event: "turn_activity", id: "c2", data: '{"a":1}' },
  { event: "message", id: "c2", data: "no space\nsecond line" },
  { event: "message", id: "c2", data: "" },
  { event: "committed", id: "c2", data: "café 🔭" },
];

test("an event stream is read by its rules", () => {
  assert.deepEqual(new EventStreamParser().push(STREAM), EVENTS);
});

test("it may be cut anywhere, also between CR and LF", () => {
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const parser = new EventStreamParser();
    const events = [...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))];
    assert.deepEqual(events, EVENTS, `cut at ${cut}`);
  }
});

test("it may come letter by letter", () => {
  const parser = new EventStreamParser();
  assert.deepEqual([...STREAM].flatMap((letter) => parser.push(letter)), EVENTS);
});

test("an event without its blank line is not there yet", () => {
  const parser = new EventStreamParser();
  assert.deepEqual(parser.push("data: half\n"), []);
  assert.deepEqual(parser.push("\n"), [{ event: "message", id: undefined, data: "half" }]);
});

test("a byte order mark at the start is passed over", () => {
  assert.equal(new EventStreamParser().push("\ufeffdata: x\n\n")[0].data, "x");
});
