/**
 * How long to wait before the next try.
 *
 * Full jitter: any moment between now and a ceiling that doubles with each failure, so that a thousand clients that lost
 * the same server do not come back in step. When the server named a window of its own (a `goodbye`, a `Retry-After`), that
 * window is used: it knows better how many are coming.
 */

export const BASE_MS = 500;
export const CEILING_MS = 15_000;

/**
 * @param {number} attempt failures in a row so far, 1 after the first
 * @param {number} chance a number in [0, 1), drawn by the caller
 * @param {{retryAfterMs?: number, jitterMs?: number}} [hints] what the server asked for
 * @returns {number} milliseconds to wait
 */
export function backoff(attempt, chance, { retryAfterMs, jitterMs } = {}) {
  const ceiling = Math.min(CEILING_MS, BASE_MS * 2 ** Math.max(0, attempt - 1));
  return Math.round(notNegative(retryAfterMs, 0) + chance * notNegative(jitterMs, ceiling));
}

/**
 * @param {number | undefined} value
 * @param {number} fallback
 */
function notNegative(value, fallback) {
  return typeof value === "number" && value >= 0 ? value : fallback;
}
