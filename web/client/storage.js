/**
 * Where a page keeps what it knows of a session, so that a reload goes on where it was.
 *
 * A cursor is worth nothing without the state it belongs to: resuming from a bare cursor would show the events after it on
 * top of nothing. So the observation is stored, whole, and its cursor with it, in one write. What is missing, of another
 * shape or too large is as if it had never been stored, and the page starts from a fresh snapshot.
 */

/** @typedef {import("./types.js").Observation} Observation */

/**
 * @typedef {object} Keeper
 * @property {(name: string) => Observation | null} load
 * @property {(name: string, observation: Observation) => void} save
 * @property {(name: string) => void} drop
 */

const FORMAT = 1;
const MAX_CHARS = 2_000_000;
const PREFIX = "sightline:";

/**
 * Keeps observations in a Web Storage. `sessionStorage` is the right one: each tab has its own.
 *
 * @param {Storage} storage
 * @returns {Keeper}
 */
export function webStorageKeeper(storage) {
  return {
    load(name) {
      try {
        const { format, observation } = JSON.parse(storage.getItem(PREFIX + name) ?? "{}");
        return format === FORMAT && isObservation(observation) ? observation : null;
      } catch {
        return null;
      }
    },
    save(name, observation) {
      const text = JSON.stringify({ format: FORMAT, observation });
      try {
        if (text.length > MAX_CHARS) storage.removeItem(PREFIX + name);
        else storage.setItem(PREFIX + name, text);
      } catch {
        this.drop(name);
      }
    },
    drop(name) {
      try {
        storage.removeItem(PREFIX + name);
      } catch {
        // A storage that refuses even this holds nothing that could mislead: `load` will fail alike.
      }
    },
  };
}

/**
 * @param {any} value
 * @returns {value is Observation}
 */
function isObservation(value) {
  return (
    typeof value?.session_id === "string" &&
    typeof value.cursor === "string" &&
    typeof value.revision === "number" &&
    Array.isArray(value.read_view?.messages) &&
    [value.queue, value.requests, value.processes, value.tasks].every(Array.isArray)
  );
}
