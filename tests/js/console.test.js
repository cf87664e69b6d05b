import assert from "node:assert/strict";
import { test } from "node:test";

import { NO_HISTORY, hasOlder, oldestOf, shown, withPage, withView } from "../../web/console/history.js";
import { Outbox } from "../../web/console/outbox.js";
import { choicesOf } from "../../web/console/requests.js";
import { hashOf, sessionOf } from "../../web/console/route.js";
import { ago, firstLine, pretty, problemText, sentenceOf, shortId } from "../../web/console/words.js";
import { ProblemError, UnreachableError } from "../../web/client/problems.js";
import { settled } from "./fakes.js";

const messages = (from, to) =>
  Array.from({ length: to - from }, (_, index) => ({ message_id: `m${from + index}`, role: "user", content: "x", at_ms: 0 }));
const ids = (history) => shown(history).map((message) => message.message_id);
const view = (list, truncated = true) => ({ messages: list, truncated });

test("what can be chosen is what is offered; an approval without an offer is a yes or no, all else is free", () => {
  assert.deepEqual(choicesOf("question", ["a", "", { b: 1 }, null]), [["a", "a"], ['""', ""], ['{"b":1}', { b: 1 }], ["null", null]]);
  assert.deepEqual(choicesOf("approval", ["later"]), [["later", "later"]]);
  assert.deepEqual(choicesOf("approval", undefined).map(([, answer]) => answer), [true, false]);
  for (const options of [undefined, [], "a"]) assert.equal(choicesOf("question", options), null);
});

test("an address names a session, and nothing else is taken for one", () => {
  for (const id of ["s1", "a:b@c", "x/y", "ä"]) assert.equal(sessionOf(hashOf(id)), id);
  for (const hash of ["", "#", "#/", "#/s/", "#/t/s1", "#/s/%E0%A4%A"]) assert.equal(sessionOf(hash), null, hash);
});

test("a view without older messages is shown as it is, by reference", () => {
  const list = messages(5, 8);
  const history = withView(NO_HISTORY, view(list, false));
  assert.equal(shown(history), list);
  assert.equal(hasOlder(history), false);
});

test("the same view again is the same history", () => {
  const list = messages(5, 8);
  const history = withView(NO_HISTORY, view(list));
  assert.equal(withView(history, view(list)), history);
});

test("a page of older messages goes above, until there are none", () => {
  let history = withView(NO_HISTORY, view(messages(5, 8)));
  assert.equal(hasOlder(history), true);
  history = withPage(history, "m5", { messages: messages(2, 5), next: "m2" });
  assert.deepEqual(ids(history), ["m2", "m3", "m4", "m5", "m6", "m7"]);
  assert.equal(hasOlder(history), true);
  history = withPage(history, "m2", { messages: messages(0, 2), next: null });
  assert.equal(oldestOf(history), "m0");
  assert.equal(hasOlder(history), false);
});

test("an empty last page ends it too", () => {
  const history = withView(NO_HISTORY, view(messages(5, 8)));
  assert.equal(hasOlder(withPage(history, "m5", { messages: [], next: null })), false);
});

test("a page that answers an older question is dropped", () => {
  const history = withView(NO_HISTORY, view(messages(5, 8)));
  assert.equal(withPage(history, "m9", { messages: messages(0, 9), next: null }), history);
});

test("a commit keeps the older messages", () => {
  const recent = messages(5, 8);
  let history = withPage(withView(NO_HISTORY, view(recent)), "m5", { messages: messages(2, 5), next: null });
  history = withView(history, view([...recent, ...messages(8, 10)]));
  assert.deepEqual(ids(history).slice(0, 2), ["m2", "m3"]);
  assert.deepEqual(ids(history).slice(-2), ["m8", "m9"]);
});

test("a shorter cut after a gap leaves on the screen what it joins to", () => {
  let history = withView(NO_HISTORY, view(messages(0, 10), false));
  history = withView(history, view(messages(6, 12), true));
  assert.deepEqual(ids(history), messages(0, 12).map((message) => message.message_id));
});

test("a cut that does not join drops what was above", () => {
  const history = withView(withView(NO_HISTORY, view(messages(0, 10))), view(messages(20, 25)));
  assert.equal(oldestOf(history), "m20");
  assert.equal(hasOlder(history), true);
});

test("a reset leaves nothing", () => {
  const history = withView(withView(NO_HISTORY, view(messages(0, 10), false)), view([], false));
  assert.deepEqual(ids(history), []);
});

function outbox(send) {
  const told = [];
  const box = new Outbox(send, { onChange: () => told.push("change"), onSent: () => told.push("sent"), onFailed: (error) => told.push(error.message) });
  return { box, told };
}

test("inputs are sent one after the other, in the order of typing", async () => {
  const sent = [];
  const answers = [];
  const { box } = outbox((text) => new Promise((resolve) => (sent.push(text), answers.push(resolve))));
  box.put("one", "k1");
  box.put("two", "k2");
  await settled();
  assert.deepEqual(sent, ["one"]);
  answers[0]();
  await settled();
  assert.deepEqual(sent, ["one", "two"]);
  answers[1]();
  await settled();
  assert.deepEqual(box.entries, []);
});

test("an input that could not be sent is kept, and goes again under its key", async () => {
  let fails = true;
  const keys = [];
  const { box, told } = outbox(async (_text, key) => {
    keys.push(key);
    if (fails) throw new Error("no server");
  });
  box.put("one", "k1");
  await settled();
  assert.deepEqual(box.entries, [{ key: "k1", text: "one", state: "unsent" }]);
  assert.equal(told.at(-1), "no server");
  fails = false;
  box.again("k1");
  box.again("k1");
  await settled();
  assert.deepEqual([keys, box.entries, told.at(-1)], [["k1", "k1"], [], "sent"]);
});

test("a kept input may be discarded", async () => {
  const { box } = outbox(async () => {
    throw new Error("no");
  });
  box.put("one", "k1");
  await settled();
  box.discard("k1");
  assert.deepEqual(box.entries, []);
});

test("moments are said shortly", () => {
  const now = new Date(2025, 5, 18, 12, 0).getTime();
  assert.equal(ago(now - 5_000, now), "now");
  assert.equal(ago(now + 5_000, now), "now");
  assert.equal(ago(now - 5 * 60_000, now), "5 min");
  assert.match(ago(now - 3 * 3_600_000, now), /^\d{1,2}.\d\d/);
});

test("titles are one short line, and long ids are told apart by their end", () => {
  assert.equal(firstLine("  first\nsecond"), "first");
  assert.equal(firstLine("x".repeat(200)).length, 80);
  assert.equal(shortId("short"), "short");
  assert.equal(shortId("01999b3e-7d1c-7c44-9e1a-0c8f6e1b2a3d"), "…6e1b2a3d");
});

test("errors are said in a sentence", () => {
  assert.equal(sentenceOf(new UnreachableError(null)), "The server could not be reached.");
  assert.equal(sentenceOf(new ProblemError(422, { code: "x", detail: "other content" })), "other content");
  assert.equal(sentenceOf(new ProblemError(500, {})), "the server answered 500");
  assert.equal(problemText({ code: "session_deleted" }), "This session was deleted.");
  assert.equal(sentenceOf(new Error("plain")), "plain");
});

test("a tool's values are shown as people read them", () => {
  assert.equal(pretty("text"), "text");
  assert.equal(pretty({ a: 1 }), '{\n  "a": 1\n}');
  assert.equal(pretty(undefined), "");
});
