/**
 * What a running turn adds up to: the `live` part of the fold.
 *
 * `live` is provisional. It is set by `turn_started`, which also replaces what a dead attempt left behind, grows with the
 * turn's activity, and is cleared by the commit. `text` and `reasoning` are the segments of their channel joined; they
 * are kept beside the segments, because appending one word must not join everything again.
 */

/** @typedef {import("./types.js").Live} Live */
/** @typedef {import("./types.js").Activity} Activity */
/** @typedef {import("./types.js").Channel} Channel */

/** @typedef {(live: Live, activity: Activity) => Live} Change */

/** The activity types that change a running turn; all others leave it alone. */
const TYPES = new Map(
  /** @type {Array<[string, Change]>} */ ([
    ["model_request_started", modelRequestStarted],
    ["assistant_prose_delta", proseDelta],
    ["reasoning_delta", reasoningDelta],
    ["tool_call_started", toolCallStarted],
    ["tool_call_completed", toolCallCompleted],
    ["queued_input_accepted", queuedInputAccepted],
    ["error", error],
    ["retracted", retracted],
  ]),
);

/**
 * The running turn after one activity; the same object when the activity says nothing about it.
 *
 * @param {Live | null} live
 * @param {Activity} activity
 * @param {number} atMs when the event was emitted, milliseconds since the epoch
 * @returns {Live | null}
 */
export function foldActivity(live, activity, atMs) {
  const type = activity.event?.type;
  if (type === "turn_started") return turnStarted(activity, atMs);
  if (live === null) return null;
  return TYPES.get(type)?.(live, activity) ?? live;
}

/**
 * @param {Activity} activity
 * @param {number} atMs
 * @returns {Live}
 */
function turnStarted({ event }, atMs) {
  return {
    turn_id: event.turn_id,
    attempt: event.attempt,
    started_at_ms: atMs,
    boundary: event.boundary,
    input: event.input ?? [],
    segments: [],
    text: "",
    reasoning: "",
    tool_calls: [],
    protocol_iteration: 0,
  };
}

/** @type {Change} */
function modelRequestStarted(live, { event }) {
  return { ...live, protocol_iteration: event.protocol_iteration };
}

/** @type {Change} */
function proseDelta(live, activity) {
  return { ...live, segments: appendText(live, activity, "text"), text: live.text + activity.event.text };
}

/** @type {Change} */
function reasoningDelta(live, activity) {
  return { ...live, segments: appendText(live, activity, "reasoning"), reasoning: live.reasoning + activity.event.text };
}

/**
 * A segment goes on as long as correlation and channel stay the same.
 *
 * @param {Live} live
 * @param {Activity} activity
 * @param {Channel} channel
 */
function appendText({ segments }, { correlation_id, event }, channel) {
  const last = segments.at(-1);
  if (last?.correlation_id === correlation_id && last.channel === channel) {
    return [...segments.slice(0, -1), { ...last, text: last.text + event.text }];
  }
  return [...segments, { correlation_id, channel, text: event.text }];
}

/** @type {Change} */
function toolCallStarted(live, { id, correlation_id, event }) {
  const call = {
    call_id: event.call_id ?? id,
    correlation_id,
    name: event.name,
    args: event.args,
    state: /** @type {const} */ ("running"),
  };
  return { ...live, tool_calls: [...live.tool_calls, call] };
}

/**
 * Found by its call id, or by its correlation when it has none; the newest one still running.
 *
 * @type {Change}
 */
function toolCallCompleted(live, { correlation_id, event }) {
  const tool_calls = live.tool_calls.slice();
  for (let index = tool_calls.length - 1; index >= 0; index -= 1) {
    const call = tool_calls[index];
    const same = event.call_id == null ? call.correlation_id === correlation_id : call.call_id === event.call_id;
    if (!same || call.state !== "running") continue;
    const state = event.state === "failed" ? "failed" : "completed";
    tool_calls[index] = { ...call, state, output: event.output };
    return { ...live, tool_calls };
  }
  return live;
}

/** @type {Change} */
function queuedInputAccepted(live, { event }) {
  const accepted = (event.inputs ?? []).map((/** @type {{message: any}} */ input) => input.message);
  return { ...live, input: [...live.input, ...accepted] };
}

/** @type {Change} */
function error(live, { event }) {
  return { ...live, error: event.message };
}

/**
 * Takes back what one correlation said, wherever it stands.
 *
 * @type {Change}
 */
function retracted(live, { event }) {
  const segments = live.segments.filter((segment) => segment.correlation_id !== event.correlation_id);
  return {
    ...live,
    segments,
    text: joined(segments, "text"),
    reasoning: joined(segments, "reasoning"),
    tool_calls: live.tool_calls.filter((call) => call.correlation_id !== event.correlation_id),
  };
}

/**
 * @param {ReadonlyArray<import("./types.js").Segment>} segments
 * @param {Channel} channel
 */
function joined(segments, channel) {
  return segments
    .filter((segment) => segment.channel === channel)
    .map((segment) => segment.text)
    .join("");
}
