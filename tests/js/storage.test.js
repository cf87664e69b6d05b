import assert from "node:assert/strict";
import { test } from "node:test";

import { webStorageKeeper } from "../../web/client/storage.js";
import { fakeStorage, observation } from "./fakes.js";

test("what was saved is loaded, under its own name only", () => {
  const keeper = webStorageKeeper(fakeStorage());
  keeper.save("one", observation(3));
  assert.deepEqual(keeper.load("one"), observation(3));
  assert.equal(keeper.load("other"), null);
});

test("what was dropped is gone", () => {
  const keeper = webStorageKeeper(fakeStorage());
  keeper.save("one", observation(3));
  keeper.drop("one");
  assert.equal(keeper.load("one"), null);
});

test("a storage that is full keeps no older state either", () => {
  const storage = fakeStorage();
  const keeper = webStorageKeeper(storage);
  keeper.save("one", observation(3));
  storage.full = true;
  keeper.save("one", observation(4));
  assert.equal(keeper.load("one"), null);
});

test("a state too large to store is not stored", () => {
  const keeper = webStorageKeeper(fakeStorage());
  keeper.save("one", observation(3));
  keeper.save("one", observation(4, { metadata: { text: "x".repeat(2_000_001) } }));
  assert.equal(keeper.load("one"), null);
});

test("a storage that refuses everything is as if there were none", () => {
  const refuse = () => {
    throw new DOMException("denied", "SecurityError");
  };
  const keeper = webStorageKeeper({ getItem: refuse, setItem: refuse, removeItem: refuse });
  keeper.save("one", observation(1));
  keeper.drop("one");
  assert.equal(keeper.load("one"), null);
});
