/**
 * Which messages are on the screen: those of the observation, and older ones that were fetched or were already there.
 *
 * An observation may be cut to its newest messages, and a gap brings a new, possibly shorter cut. What was on the screen
 * above the new cut is still history as long as the cut begins with a message that was on the screen too; it stays, and
 * nothing jumps. When it does not, the two cannot be joined and the older ones are fetched again when asked for.
 */

/** @typedef {import("../client/types.js").Message} Message */
/** @typedef {import("../client/types.js").ReadView} ReadView */

/**
 * @typedef {object} History
 * @property {ReadonlyArray<Message>} older shown above the observation's own
 * @property {ReadonlyArray<Message>} recent the observation's own
 * @property {boolean} truncated whether the observation was cut
 * @property {string | null} beginsWith the first message of all, once the server said that there is none before it
 */

/** @type {History} */
export const NO_HISTORY = { older: [], recent: [], truncated: false, beginsWith: null };

/**
 * @param {History} history
 * @param {Pick<ReadView, "messages" | "truncated">} view
 * @returns {History}
 */
export function withView(history, { messages, truncated }) {
  if (messages === history.recent && truncated === history.truncated) return history;
  const { older, recent } = history;
  const goesOn = messages.length > 0 && messages[0] === recent[0];
  return { ...history, older: goesOn ? older : above(shown(history), messages), recent: messages, truncated };
}

/**
 * @param {History} history
 * @param {string} before what the page was asked for
 * @param {{messages: ReadonlyArray<Message>, next: string | null}} page
 * @returns {History}
 */
export function withPage(history, before, { messages, next }) {
  if (oldestOf(history) !== before) return history;
  const older = [...messages, ...history.older];
  return { ...history, older, beginsWith: next === null ? (messages[0]?.message_id ?? before) : history.beginsWith };
}

/**
 * @param {History} history
 * @returns {ReadonlyArray<Message>}
 */
export function shown({ older, recent }) {
  return older.length ? older.concat(recent) : recent;
}

/**
 * @param {History} history
 * @returns {string | null} the id to ask for older ones with
 */
export function oldestOf({ older, recent }) {
  return (older[0] ?? recent[0])?.message_id ?? null;
}

/** @param {History} history */
export function hasOlder(history) {
  const oldest = oldestOf(history);
  return history.truncated && oldest !== null && oldest !== history.beginsWith;
}

/**
 * @param {ReadonlyArray<Message>} before
 * @param {ReadonlyArray<Message>} messages
 */
function above(before, messages) {
  if (messages.length === 0) return [];
  const index = before.findIndex((message) => message.message_id === messages[0].message_id);
  return index > 0 ? before.slice(0, index) : [];
}
