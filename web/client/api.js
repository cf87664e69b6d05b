/**
 * The writes and the lists: everything of the wire that is one request and one answer.
 *
 * A write whose answer got lost may have been carried out. Submitting a turn goes under an `Idempotency-Key` made here and kept
 * over every retry, so the work is there once however often it was sent; cancelling is idempotent by itself. Creating
 * a session is neither and is not repeated on its own.
 */

import { address, ownOrigin, processPath, sessionPath } from "./address.js";
import { backoff } from "./backoff.js";
import { defaultHost, uniqueKey } from "./host.js";
import { ProblemError, UnreachableError, problemOf } from "./problems.js";

/** @typedef {import("./types.js").Batch} Batch */
/** @typedef {import("./types.js").Observation} Observation */
/** @typedef {import("./types.js").SessionEntry} SessionEntry */
/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").ProcessEvent} ProcessEvent */

export const TRIES = 8;

/**
 * @typedef {object} ApiOptions
 * @property {string} [baseUrl] the page's own origin unless given
 * @property {Record<string, string>} [headers] sent with every request
 * @property {Partial<import("./host.js").Host>} [host]
 * @property {() => string} [newKey] makes idempotency keys
 */

/**
 * @typedef {object} Call
 * @property {import("./address.js").Query} [query]
 * @property {unknown} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {boolean} [safe] whether sending it twice does no more than sending it once
 */

/**
 * @typedef {object} TurnOptions
 * @property {string} [idempotencyKey] from an earlier try of the same input
 * @property {AbortSignal} [signal]
 */

/** @typedef {ReturnType<typeof createApi>} Api */

/** @param {ApiOptions} [options] */
export function createApi(options = {}) {
  const baseUrl = options.baseUrl ?? ownOrigin();
  const host = { ...defaultHost(), ...options.host };
  const newKey = options.newKey ?? uniqueKey;

  /**
   * @param {string} method
   * @param {string} path
   * @param {Call} [call]
   * @returns {Promise<{status: number, headers: Headers, body: any}>}
   */
  async function request(method, path, call = {}) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await once(method, path, call);
      } catch (error) {
        if (!call.safe || attempt >= TRIES || !mayRetry(error)) throw error;
        const retryAfterMs = error instanceof ProblemError ? error.retryAfterMs : undefined;
        await sleep(backoff(attempt, host.random(), { retryAfterMs }), call.signal);
      }
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Call} call
   */
  async function once(method, path, { query, body, headers, signal }) {
    if (!host.fetch) throw new TypeError("there is no fetch here");
    /** @type {Record<string, string>} */
    const sent = { accept: "application/json", ...options.headers, ...headers };
    if (body !== undefined) sent["content-type"] = "application/json";
    const init = { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal };
    const url = address(baseUrl, path, query);
    /** @type {Response} */
    let response;
    try {
      response = await host.fetch(url, init);
      if (response.ok) {
        const text = await response.text();
        return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new UnreachableError(error);
    }
    throw await problemOf(response);
  }

  /**
   * @param {number} ms
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  function sleep(ms, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer = host.setTimer(resolve, ms);
      const onAbort = () => {
        host.clearTimer(timer);
        reject(signal?.reason);
      };
      return signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /**
   * @param {string} path
   * @param {unknown} body
   * @param {TurnOptions} [options]
   * @returns {Promise<{answer: any, replayed: boolean, idempotencyKey: string}>}
   */
  async function submit(path, body, { idempotencyKey = newKey(), signal } = {}) {
    const headers = { "idempotency-key": idempotencyKey };
    try {
      const answer = await request("POST", path, { body, headers, signal, safe: true });
      const replayed = answer.headers.get("idempotency-replayed") === "true";
      return { answer: answer.body, replayed, idempotencyKey };
    } catch (error) {
      if (error instanceof UnreachableError || error instanceof ProblemError) error.idempotencyKey = idempotencyKey;
      throw error;
    }
  }

  return {
    /**
     * @param {{session_id?: string, policy?: object, metadata?: object}} [session]
     * @returns {Promise<Observation>}
     */
    async createSession(session = {}) {
      return (await request("POST", "/v1/sessions", { body: session })).body;
    },

    /**
     * @param {{limit?: number, after?: string, status?: string, signal?: AbortSignal}} [options]
     * @returns {Promise<{sessions: SessionEntry[], next: string | null}>}
     */
    async listSessions({ signal, ...query } = {}) {
      return (await request("GET", "/v1/sessions", { query, signal })).body;
    },

    /**
     * @param {string} sessionId
     * @param {{messages?: number, signal?: AbortSignal}} [options]
     * @returns {Promise<Observation>}
     */
    async getSession(sessionId, { signal, ...query } = {}) {
      return (await request("GET", sessionPath(sessionId), { query, signal })).body;
    },

    /**
     * A page of older messages: those before `before`, oldest first. `next` is the `before` of the page before that.
     *
     * @param {string} sessionId
     * @param {{before?: string, limit?: number, signal?: AbortSignal}} [options]
     * @returns {Promise<{messages: Message[], next: string | null}>}
     */
    async listMessages(sessionId, { signal, ...query } = {}) {
      return (await request("GET", sessionPath(sessionId, "/messages"), { query, signal })).body;
    },

    /**
     * Submits work. When it answers, the work is durable. When it fails without an answer, `idempotencyKey` of the error makes a
     * later call of the same input safe.
     *
     * @param {string} sessionId
     * @param {string | {input: any, [field: string]: any}} turn text, or a whole turn body
     * @param {TurnOptions} [options]
     * @returns {Promise<{batch: Batch, replayed: boolean, idempotencyKey: string}>}
     */
    async sendTurn(sessionId, turn, options) {
      const body = typeof turn === "string" ? { input: turn } : turn;
      const { answer, ...sent } = await submit(sessionPath(sessionId, "/turns"), body, options);
      return { batch: answer, ...sent };
    },

    /**
     * Submits a session command, with the promises of `sendTurn`. The batch of the receipt tells what came of it.
     *
     * @param {string} sessionId
     * @param {{kind: "refresh_tool_surface" | "reset_session", reason: string, expected_generation?: number}} command
     * @param {TurnOptions} [options]
     * @returns {Promise<{receipt: {session_id: string, batch_id: string, source_key: string}, replayed: boolean,
     *   idempotencyKey: string}>}
     */
    async sendCommand(sessionId, command, options) {
      const { answer, ...sent } = await submit(sessionPath(sessionId, "/commands"), command, options);
      return { receipt: answer, ...sent };
    },

    /**
     * Takes a pending input out of the queue.
     *
     * @param {string} sessionId
     * @param {string} batchId
     * @returns {Promise<Batch>}
     */
    async cancelBatch(sessionId, batchId) {
      const path = sessionPath(sessionId, `/queue/${encodeURIComponent(batchId)}`);
      return (await request("DELETE", path, { safe: true })).body;
    },

    /**
     * Takes a pending input and every later one out of the queue. `kept` are those that a turn has taken.
     *
     * @param {string} sessionId
     * @param {string} batchId
     * @returns {Promise<{cancelled: Batch[], kept: Batch[]}>}
     */
    async cancelFrom(sessionId, batchId) {
      return (await request("DELETE", sessionPath(sessionId, "/queue"), { query: { from: batchId }, safe: true })).body;
    },

    /**
     * Answers what a turn asks. The first answer counts: a later one, also our own that came twice, is refused as
     * `already_answered`.
     *
     * @param {string} sessionId
     * @param {string} requestId
     * @param {unknown} answer anything JSON can hold
     * @returns {Promise<{request_id: string, applied_through: string}>}
     */
    async answer(sessionId, requestId, answer) {
      const body = { request_id: requestId, answer };
      return (await request("POST", sessionPath(sessionId, "/answers"), { body, safe: true })).body;
    },

    /**
     * Asks the running turn, or the work submitted under a key, to stop. Idempotent; an ended turn answers too.
     *
     * @param {string} sessionId
     * @param {{turn_id?: string, reason?: string, idempotency_key?: string}} [target]
     * @returns {Promise<{turn_id: string | null, state: string}>}
     */
    async cancelTurn(sessionId, target = {}) {
      return (await request("POST", sessionPath(sessionId, "/cancel"), { body: target, safe: true })).body;
    },

    /**
     * @param {string} processId
     * @returns {Promise<Record<string, any>>} the record
     */
    async getProcess(processId) {
      return (await request("GET", processPath(processId))).body;
    },

    /**
     * What a process logged behind `after`. With `wait` the answer is held for so many seconds while there is nothing.
     *
     * @param {string} processId
     * @param {{after?: number, wait?: number, limit?: number, signal?: AbortSignal}} [options]
     * @returns {Promise<{events: ProcessEvent[], next: number | null}>}
     */
    async listProcessEvents(processId, { signal, ...query } = {}) {
      return (await request("GET", processPath(processId, "/events"), { query, signal })).body;
    },

    /**
     * Asks for the end of a process; nothing when it has ended.
     *
     * @param {string} processId
     * @param {string} [reason]
     * @returns {Promise<Record<string, any>>} the record, which may still run
     */
    async cancelProcess(processId, reason) {
      return (await request("POST", processPath(processId, "/cancel"), { body: reason ? { reason } : {}, safe: true })).body;
    },

    /**
     * Hands processes over to another session, all or none.
     *
     * @param {string} sessionId
     * @param {string} toSessionId
     * @param {string[]} processIds
     */
    async transferProcesses(sessionId, toSessionId, processIds) {
      const body = { to_session_id: toSessionId, process_ids: processIds };
      return (await request("POST", sessionPath(sessionId, "/processes/transfer"), { body })).body;
    },

    /**
     * @param {string} sessionId
     * @param {string} taskId
     * @returns {Promise<Record<string, any>>} the record of the background task
     */
    async cancelTask(sessionId, taskId) {
      return (await request("DELETE", sessionPath(sessionId, `/tasks/${encodeURIComponent(taskId)}`), { safe: true })).body;
    },

    /**
     * Hands background tasks over to another session, all or none.
     *
     * @param {string} sessionId
     * @param {string} toSessionId
     * @param {string[]} taskIds
     */
    async transferTasks(sessionId, toSessionId, taskIds) {
      const body = { to_session_id: toSessionId, task_ids: taskIds };
      return (await request("POST", sessionPath(sessionId, "/tasks/transfer"), { body })).body;
    },
  };
}

/** @param {unknown} error */
function mayRetry(error) {
  return error instanceof UnreachableError || (error instanceof ProblemError && error.retryable);
}
