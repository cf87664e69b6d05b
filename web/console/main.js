/**
 * The operator console: puts the views together. The address says which session; everything shown is painted from one snapshot,
 * at most once per frame; every action is a request whose effect comes back through the stream.
 */

import { ProblemError, createApi } from "../client/index.js";
import { address, ownOrigin, sessionPath } from "../client/address.js";
import { uniqueKey } from "../client/host.js";
import { showConnection, showTitle } from "./bar.js";
import { composer } from "./composer.js";
import { byId, setText } from "./dom.js";
import { drawer } from "./drawer.js";
import { follow } from "./follow.js";
import { hasOlder, shown } from "./history.js";
import { LiveTurn } from "./live.js";
import { clearError, showError } from "./notice.js";
import { Outbox } from "./outbox.js";
import { painter } from "./paint.js";
import { QueueView } from "./queue.js";
import { RequestsView } from "./requests.js";
import { hashOf, sessionOf } from "./route.js";
import { Sidebar } from "./sidebar.js";
import { Streams } from "./streams.js";
import { Transcript } from "./transcript.js";
import { Watched } from "./watched.js";
import { showWelcome } from "./welcome.js";
import { firstLine, problemText, sentenceOf, shortId } from "./words.js";
import { WorkView } from "./work.js";

const api = createApi();
const paint = painter(paintNow);
const sidebar = new Sidebar(api, paint);
const list = byId("messages", HTMLElement);
const older = byId("older", HTMLButtonElement);
const stop = byId("stop", HTMLButtonElement);
const following = follow(byId("scroll", HTMLElement), byId("content", HTMLElement), byId("latest", HTMLButtonElement));
const { close: closeDrawer } = drawer();
const box = composer(send);
/** @type {Map<string, Outbox>} kept while the page lives: leaving a session must not lose what was typed there */
const outboxes = new Map();

const queue = new QueueView({
  cancel: (batchId) => attempt(() => watched?.cancel(batchId)),
  again: (key) => {
    clearError();
    watched?.outbox.again(key);
  },
  discard: (key) => watched?.outbox.discard(key),
});

const requests = new RequestsView(async (requestId, answer) => {
  clearError();
  return (await attempt(() => watched?.answer(requestId, answer))) !== undefined;
});

const work = new WorkView(
  api,
  {
    cancel: (sort, id) => {
      clearError();
      return attempt(() => watched?.cancelWork(sort, id));
    },
    handOver: (sort, id, target) => {
      clearError();
      return attempt(() => watched?.handOver(sort, id, target));
    },
    targets: () => sidebar.others(watched?.sessionId ?? null),
  },
  paint,
);

const transcript = new Transcript(list, pictureOf);
const live = new LiveTurn(byId("transcript", HTMLElement), pictureOf);

/** @type {Watched | null} */
let watched = null;
/** @type {unknown} the refusal that was told last, so that a dismissed one stays dismissed */
let refusal = null;
const streams = new Streams(listChanged);

/** @type {ReadonlyArray<never>} */
const NONE = [];

/** Refusals because somebody was faster, which the stream shows. */
const MEANWHILE = new Set(["batch_not_cancellable", "already_answered"]);

/** @param {string} attachmentId */
function pictureOf(attachmentId) {
  return address(ownOrigin(), sessionPath(watched?.sessionId ?? "", `/attachments/${encodeURIComponent(attachmentId)}`));
}

function listChanged() {
  sidebar.tell(streams.list.snapshot);
  if (!streams.isRefused) return;
  watched?.reopen();
  paint();
}

/** Follows the address. */
function navigate() {
  const sessionId = sessionOf(location.hash);
  closeDrawer();
  if (sessionId === (watched?.sessionId ?? null)) return;
  watched?.leave();
  clearError();
  transcript.clear();
  live.show(null);
  work.clear();
  watched = sessionId === null ? null : watch(sessionId);
  following.start();
  paint();
}

/** @param {string} sessionId */
function watch(sessionId) {
  return new Watched({ sessionId, api, streams, outbox: outboxOf(sessionId), onChange: paint, onTurnError: (message) => showError(message) });
}

/** @param {string} sessionId */
function outboxOf(sessionId) {
  let outbox = outboxes.get(sessionId);
  if (!outbox) {
    const sendTurn = (/** @type {string} */ text, /** @type {string} */ key) => api.sendTurn(sessionId, text, { idempotencyKey: key });
    outbox = new Outbox(sendTurn, {
      onChange: paint,
      onSent: () => sidebar.refresh(),
      onFailed: (error) => showError(`Not sent: ${sentenceOf(error)}`),
    });
    outboxes.set(sessionId, outbox);
  }
  return outbox;
}

function paintNow() {
  const snapshot = watched?.snapshot ?? null;
  const observation = snapshot?.observation ?? null;
  const title = titleNow(observation);
  sidebar.show(watched?.sessionId ?? null, observation, title);
  showTitle(title, observation?.status ?? null);
  showConnection(snapshot);
  showWelcome({ watching: watched !== null, snapshot, sidebar });
  paintRefusal(snapshot);
  paintTranscript(observation);
  requests.show(observation?.requests ?? []);
  work.show(observation?.processes ?? NONE, observation?.tasks ?? NONE);
  queue.show(observation?.queue ?? [], watched?.outbox.entries ?? [], observation?.live?.turn_id ?? null);
  paintStop();
}

/** @param {import("../client/types.js").Observation | null} observation */
function paintTranscript(observation) {
  const history = watched?.messages;
  const messages = history && observation ? shown(history) : null;
  const change = () => {
    older.hidden = !history || !hasOlder(history);
    older.disabled = !watched?.canShowOlder;
    if (messages) transcript.show(messages);
  };
  if (messages && transcript.isShowing(messages)) change();
  else following.holding(list, change);
  live.show(observation?.live ?? null);
}

function paintStop() {
  stop.hidden = !watched?.running;
  stop.disabled = watched?.isStopping ?? false;
  setText(stop, stop.disabled ? "Stopping" : "Stop");
}

/** @param {import("../client/types.js").Observation | null} observation */
function titleNow(observation) {
  if (!watched) return "Console";
  const title = sidebar.entryOf(watched.sessionId)?.title;
  const first = observation?.read_view.messages.find((message) => message.role === "user");
  return firstLine(title || (observation?.read_view.truncated ? "" : (first?.content ?? ""))) || shortId(watched.sessionId);
}

/** @param {import("../client/types.js").Snapshot | null} snapshot */
function paintRefusal(snapshot) {
  const now = snapshot?.phase === "unavailable" ? snapshot : null;
  if (now?.problem === refusal && now !== null) return;
  const wasRefused = refusal !== null;
  refusal = now && (now.problem ?? {});
  if (now) showError((now.problem && problemText(now.problem)) || "The server refuses this session.", () => watched?.client.retry());
  else if (wasRefused) clearError();
}

/** @param {string} text */
async function send(text) {
  clearError();
  following.start();
  const target = watched ?? (await attempt(create));
  if (!target) return box.giveBack(text);
  target.client.settle();
  target.outbox.put(text, uniqueKey());
}

/** @returns {Promise<Watched | null>} the new session, shown */
async function create() {
  const { session_id } = await api.createSession();
  location.hash = hashOf(session_id);
  navigate();
  sidebar.refresh();
  return watched;
}

/**
 * Does what the user asked for; when it fails, says so.
 *
 * @template T
 * @param {() => Promise<T> | undefined} action
 * @returns {Promise<T | undefined>}
 */
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof ProblemError && MEANWHILE.has(error.code))) showError(sentenceOf(error));
    return undefined;
  }
}

async function createAndFocus() {
  clearError();
  if (await attempt(create)) box.focus();
}

byId("new-session", HTMLButtonElement).addEventListener("click", createAndFocus);
byId("welcome-action", HTMLButtonElement).addEventListener("click", createAndFocus);
older.addEventListener("click", () => attempt(() => watched?.showOlder()));
stop.addEventListener("click", () => attempt(() => watched?.stop()));
window.addEventListener("hashchange", navigate);

navigate();
paint();
if (matchMedia("(hover: hover)").matches) box.focus();
