/**
 * The fold: what an observation becomes when one more event of its session is seen.
 *
 * The law it lives by: a snapshot folded with the events after its cursor, one by one, is the snapshot the server would hand
 * out at the last event's cursor. So a watcher who resumed, one who got a gap and one who never left all see the same. The
 * same rules exist once more in the kernel; shared vectors hold the two together.
 *
 * Hard decisions, and why they went this way:
 *
 * - Nothing is changed in place, and what an event does not touch is kept by reference. A text delta makes a new `live` and a
 *   new last segment; the transcript array is the same object before and after. Views compare by `===` and repaint the rest.
 * - A kind or an activity type that is not known here only moves the cursor: servers may add both at any time.
 * - Activity without a running turn says nothing: `live` is set by `turn_started` alone.
 * - `status` is derived after every event by the one rule of the wire, and never taken from anywhere else.
 * - `truncated` is a fact about the snapshot that was cut; events append and never drop, so they leave it alone. Only what
 *   replaces the transcript, a reset or a new agent frame, leaves a whole one.
 * - A process or task leaves with the kinds that end it, and also when its summary says that it has ended: progress may be told
 *   of one whose end was told before, and must not bring it back.
 * - Entries of one event are taken one after the other, so that the last word about an id counts.
 */

import { foldActivity } from "./activity.js";

/** @typedef {import("./types.js").Observation} Observation */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").BatchSummary} BatchSummary */
/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Usage} Usage */
/** @typedef {import("./types.js").UsageFigures} UsageFigures */

const OPEN_BATCH_STATES = new Set(["pending", "claimed"]);
const ENDS = new Set(["completed", "failed", "cancelled", "abandoned"]);
const HANDLE_ENDS = new Set([...ENDS, "revoked"]);
const REQUEST_ENDS = new Set(["answered", "withdrawn"]);
const RESIDENT = /** @type {const} */ (["policy", "tools", "metadata"]);

/** @typedef {(observation: Observation, data: any, event: WireEvent) => Partial<Observation>} Change the parts a kind changes */

/** A map and not an object, so that no kind can reach a prototype. */
const KINDS = new Map(
  /** @type {Array<[string, Change]>} */ ([
    ["turn_activity", turnActivity],
    ["committed", committed],
    ["agent_frame_switched", agentFrameSwitched],
    ["queue_changed", queueChanged],
    ["process_changed", processChanged],
    ["task_changed", taskChanged],
    ["request_changed", requestChanged],
    ["resident_changed", residentChanged],
  ]),
);

/**
 * The observation after one event. The argument is left as it was.
 *
 * @param {Observation} observation
 * @param {WireEvent} event
 * @returns {Observation}
 */
export function fold(observation, event) {
  const change = KINDS.get(event.kind)?.(observation, event.data ?? {}, event) ?? {};
  const next = {
    ...observation,
    ...change,
    cursor: event.cursor,
    revision: Math.max(observation.revision, event.revision),
  };
  next.status = statusOf(next);
  return next;
}

/**
 * The observation after several events, in order.
 *
 * @param {Observation} observation
 * @param {Iterable<WireEvent>} events
 * @returns {Observation}
 */
export function foldAll(observation, events) {
  let folded = observation;
  for (const event of events) folded = fold(folded, event);
  return folded;
}

/**
 * The one rule for what a session is doing.
 *
 * @param {Pick<Observation, "requests" | "live" | "queue">} observation
 * @returns {import("./types.js").Status}
 */
export function statusOf({ requests, live, queue }) {
  if (requests.length > 0) return "waiting";
  if (live !== null || queue.some((batch) => batch.state === "claimed")) return "running";
  if (queue.some((batch) => batch.state === "pending")) return "queued";
  return "idle";
}

/**
 * @param {Observation} observation
 * @param {import("./types.js").Activity} activity
 * @param {WireEvent} event
 */
function turnActivity(observation, activity, event) {
  const live = foldActivity(observation.live, activity, event.at_ms);
  return live === observation.live ? {} : { live };
}

/**
 * @param {Observation} observation
 * @param {any} data
 */
function committed(observation, data) {
  const { read_view, usage } = observation;
  const appended = data.messages ?? [];
  /** @type {Partial<Observation>} */
  const change = {
    read_view: {
      ...read_view,
      messages: data.reset ? appended : appended.length ? read_view.messages.concat(appended) : read_view.messages,
      agent_frame_id: data.agent_frame_id ?? read_view.agent_frame_id,
      turn_index: data.turn_index ?? read_view.turn_index,
      truncated: data.reset ? false : read_view.truncated,
    },
  };
  if (data.usage_delta) change.usage = addUsage(usage, data.usage_delta);
  if (data.outcome != null) change.live = null;
  return change;
}

/**
 * @param {Observation} observation
 * @param {{frame_id: string, messages: Message[]}} data
 */
function agentFrameSwitched(observation, data) {
  const view = { messages: data.messages ?? [], agent_frame_id: data.frame_id, truncated: false };
  return { read_view: { ...observation.read_view, ...view } };
}

/**
 * @param {Observation} observation
 * @param {{batches: BatchSummary[]}} data
 */
function queueChanged(observation, { batches }) {
  const queue = updated("batch_id", observation.queue, batches, (batch) => !OPEN_BATCH_STATES.has(batch.state));
  return { queue: queue.sort((one, other) => one.enqueue_seq - other.enqueue_seq) };
}

/**
 * @param {Observation} observation
 * @param {{kind: string, processes: Array<Record<string, any>>}} data
 */
function processChanged(observation, { kind, processes }) {
  const gone = HANDLE_ENDS.has(kind);
  return { processes: updated("process_id", observation.processes, processes, ({ status }) => gone || ENDS.has(status)) };
}

/**
 * @param {Observation} observation
 * @param {{kind: string, tasks: Array<Record<string, any>>}} data
 */
function taskChanged(observation, { kind, tasks }) {
  const gone = HANDLE_ENDS.has(kind);
  return { tasks: updated("task_id", observation.tasks, tasks, ({ state }) => gone || ENDS.has(state)) };
}

/**
 * @param {Observation} observation
 * @param {{kind: string, requests: import("./types.js").Request[]}} data
 */
function requestChanged(observation, { kind, requests }) {
  const gone = REQUEST_ENDS.has(kind);
  return { requests: updated("request_id", observation.requests, requests, () => gone) };
}

/**
 * @param {Observation} _observation
 * @param {Record<string, any>} data
 */
function residentChanged(_observation, data) {
  return Object.fromEntries(RESIDENT.filter((part) => Object.hasOwn(data, part)).map((part) => [part, data[part]]));
}

/**
 * A new list in which `items` took the places of those with the same key, new ones stand at the end, and those that are gone
 * have left.
 *
 * @template {Record<string, any>} T
 * @param {string} key
 * @param {ReadonlyArray<T>} list
 * @param {T[]} items
 * @param {(item: T) => boolean} gone
 * @returns {T[]}
 */
function updated(key, list, items, gone) {
  const byKey = new Map(list.map((item) => [item[key], item]));
  for (const item of items) {
    if (gone(item)) byKey.delete(item[key]);
    else byKey.set(item[key], item);
  }
  return [...byKey.values()];
}

/**
 * @param {Usage} usage
 * @param {Usage} delta
 * @returns {Usage}
 */
function addUsage(usage, delta) {
  const totals = addFigures(usage.totals, delta.totals ?? {});
  const sum = { ...usage, totals, by_model: addModels(usage.by_model, delta.by_model ?? {}) };
  return delta.by_source ? { ...sum, by_source: addSources(usage.by_source ?? {}, delta.by_source) } : sum;
}

/**
 * @param {Record<string, Record<string, UsageFigures>>} sources
 * @param {Record<string, Record<string, UsageFigures>>} delta
 * @returns {Record<string, Record<string, UsageFigures>>}
 */
function addSources(sources, delta) {
  const sum = new Map(Object.entries(sources));
  for (const [source, models] of Object.entries(delta)) sum.set(source, addModels(sum.get(source) ?? {}, models));
  return Object.fromEntries(sum);
}

/**
 * @param {Record<string, UsageFigures>} models
 * @param {Record<string, UsageFigures>} delta
 * @returns {Record<string, UsageFigures>}
 */
function addModels(models, delta) {
  const sum = new Map(Object.entries(models));
  for (const [model, figures] of Object.entries(delta)) sum.set(model, addFigures(sum.get(model) ?? {}, figures));
  return Object.fromEntries(sum);
}

/**
 * @param {UsageFigures} figures
 * @param {UsageFigures} delta
 * @returns {UsageFigures}
 */
function addFigures(figures, delta) {
  const sum = new Map(Object.entries(figures));
  for (const [name, more] of Object.entries(delta)) sum.set(name, (sum.get(name) ?? 0) + more);
  return Object.fromEntries(sum);
}
