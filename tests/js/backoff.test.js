import assert from "node:assert/strict";
import { test } from "node:test";

import { BASE_MS, CEILING_MS, backoff } from "../../web/client/backoff.js";

test("the ceiling doubles with each failure and stops growing", () => {
  const almost = 1 - Number.EPSILON;
  const ceilings = Array.from({ length: 12 }, (_, index) => backoff(index + 1, almost));
  assert.deepEqual(ceilings.slice(0, 4), [BASE_MS, BASE_MS * 2, BASE_MS * 4, BASE_MS * 8]);
  assert.equal(ceilings.at(-1), CEILING_MS);
});

test("jitter is full: from at once to the ceiling", () => {
  assert.equal(backoff(3, 0), 0);
  assert.equal(backoff(3, 0.5), BASE_MS * 2);
});

test("a thousand failures are still a number", () => {
  assert.equal(backoff(1000, 0.5), CEILING_MS / 2);
});

test("the server's window replaces ours", () => {
  assert.equal(backoff(1, 0.25, { retryAfterMs: 2000, jitterMs: 8000 }), 4000);
  assert.equal(backoff(9, 0.5, { retryAfterMs: 0, jitterMs: 100 }), 50);
});

test("a server that only names a moment gets our jitter after it", () => {
  assert.equal(backoff(1, 0.5, { retryAfterMs: 3000 }), 3000 + BASE_MS / 2);
});

test("nonsense from the server is not taken", () => {
  assert.equal(backoff(1, 0.5, { retryAfterMs: -5, jitterMs: NaN }), BASE_MS / 2);
});
