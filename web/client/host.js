/**
 * What the client needs from the place it runs in: time, chance, timers, the network, and to be told when the page is shown or
 * about to go. Tests pass their own, in which time moves when told.
 */

/**
 * @typedef {object} Host
 * @property {() => number} now milliseconds of a clock that only moves forward
 * @property {() => number} random in [0, 1)
 * @property {(callback: () => void, ms: number) => unknown} setTimer
 * @property {(timer: any) => void} clearTimer
 * @property {typeof globalThis.fetch | undefined} fetch
 * @property {typeof globalThis.WebSocket | undefined} WebSocket
 * @property {(listeners: Lifecycle) => () => void} watchLifecycle answers with how to stop watching
 */

/**
 * @typedef {object} Lifecycle
 * @property {() => void} onWake the page is shown again, or the network is back
 * @property {() => void} onRest the page is hidden or about to go: the last moment to store anything
 */

/** @returns {Host} the browser, or Node */
export function defaultHost() {
  return {
    now: () => performance.now(),
    random: () => Math.random(),
    setTimer: (callback, ms) => setTimeout(callback, ms),
    clearTimer: (timer) => clearTimeout(timer),
    fetch: globalThis.fetch?.bind(globalThis),
    WebSocket: globalThis.WebSocket,
    watchLifecycle,
  };
}

/** @param {Lifecycle} listeners */
function watchLifecycle({ onWake, onRest }) {
  if (typeof window === "undefined") return () => {};
  const onVisibility = () => (document.visibilityState === "visible" ? onWake() : onRest());
  window.addEventListener("online", onWake);
  window.addEventListener("pageshow", onWake);
  window.addEventListener("pagehide", onRest);
  document.addEventListener("visibilitychange", onVisibility);
  return () => {
    window.removeEventListener("online", onWake);
    window.removeEventListener("pageshow", onWake);
    window.removeEventListener("pagehide", onRest);
    document.removeEventListener("visibilitychange", onVisibility);
  };
}

/** @returns {string} a key nobody else has; also where `crypto.randomUUID` is missing, which it is on plain http */
export function uniqueKey() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
