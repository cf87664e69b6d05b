/**
 * What can go wrong with a request, as two errors.
 *
 *     Error
 *     ├─ ProblemError      the server answered, and refused: `code` says why
 *     └─ UnreachableError  no answer came, so nobody knows whether the request was carried out
 */

/** @typedef {import("./types.js").Problem} Problem */

export class ProblemError extends Error {
  /**
   * @param {number} status
   * @param {Problem & Record<string, any>} problem the RFC 9457 body
   * @param {number} [retryAfterMs]
   */
  constructor(status, problem, retryAfterMs) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.name = "ProblemError";
    this.status = status;
    this.problem = problem;
    this.code = problem.code ?? `http_${status}`;
    this.retryable = problem.retryable ?? (status === 429 || status >= 500);
    this.retryAfterMs = retryAfterMs;
    /** @type {string | undefined} the key the refused write went under */
    this.idempotencyKey = undefined;
  }
}

export class UnreachableError extends Error {
  /** @param {unknown} cause */
  constructor(cause) {
    super("the server could not be reached", { cause });
    this.name = "UnreachableError";
    this.retryable = true;
    /** @type {string | undefined} sending again under this key cannot do the work twice */
    this.idempotencyKey = undefined;
  }
}

/**
 * Reads a refused answer, whatever its body is: something on the way may have answered instead of the server.
 *
 * @param {Response} response
 * @returns {Promise<ProblemError>}
 */
export async function problemOf(response) {
  let problem = {};
  try {
    const body = await response.json();
    if (body !== null && typeof body === "object") problem = body;
  } catch {
    problem = { title: response.statusText };
  }
  return new ProblemError(response.status, problem, retryAfterMs(response.headers.get("retry-after")));
}

/**
 * @param {string | null} value the `Retry-After` header, in seconds; the form with a date is not used by Sightline
 * @returns {number | undefined}
 */
function retryAfterMs(value) {
  const seconds = value === null || value.trim() === "" ? NaN : Number(value);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}
