/** Small true stand-ins: a place whose time moves when told, sockets and responses that do what the test says. */

export function fakeHost({ random = () => 0.5, fetch, WebSocket } = {}) {
  let time = 0;
  let timers = [];
  const lifecycles = new Set();
  return {
    now: () => time,
    random,
    fetch,
    WebSocket,
    setTimer(callback, ms) {
      const timer = { at: time + ms, callback };
      timers.push(timer);
      return timer;
    },
    clearTimer(timer) {
      timers = timers.filter((other) => other !== timer);
    },
    watchLifecycle(listeners) {
      lifecycles.add(listeners);
      return () => lifecycles.delete(listeners);
    },
    wake: () => lifecycles.forEach((listeners) => listeners.onWake()),
    rest: () => lifecycles.forEach((listeners) => listeners.onRest()),
    watchers: () => lifecycles.size,
    waiting: () => timers.length,
    advance(ms) {
      const end = time + ms;
      for (;;) {
        const next = timers.filter((timer) => timer.at <= end).sort((one, other) => one.at - other.at)[0];
        if (!next) break;
        time = Math.max(time, next.at);
        timers = timers.filter((timer) => timer !== next);
        next.callback();
      }
      time = end;
    },
  };
}

/** A WebSocket class whose instances are kept in `opened` and are driven by the test. */
export function fakeWebSocket() {
  class FakeWebSocket {
    static OPEN = 1;
    static opened = [];
    readyState = 0;
    sent = [];
    constructor(url, protocol) {
      this.url = new URL(url);
      this.protocol = protocol;
      FakeWebSocket.opened.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close(code) {
      this.closedWith = code;
      this.readyState = 3;
    }
    open() {
      this.readyState = 1;
      this.onopen();
    }
    serve(...frames) {
      this.readyState = 1;
      for (const frame of frames) this.onmessage({ data: JSON.stringify(frame) });
    }
    say(data) {
      this.readyState = 1;
      this.onmessage({ data });
    }
    end(code = 1006) {
      this.readyState = 3;
      this.onclose({ code });
    }
  }
  return FakeWebSocket;
}

/** Web Storage in memory. `full` makes it refuse writes, as a browser does over quota. */
export function fakeStorage() {
  const items = new Map();
  return {
    items,
    full: false,
    getItem: (key) => items.get(key) ?? null,
    setItem(key, value) {
      if (this.full) throw new DOMException("over quota", "QuotaExceededError");
      items.set(key, value);
    },
    removeItem: (key) => items.delete(key),
  };
}

export function observation(position = 1, more = {}) {
  return {
    session_id: "s1",
    revision: 1,
    cursor: cursor(position),
    status: "idle",
    policy: {},
    metadata: {},
    read_view: { messages: [], agent_frame_id: "initial", turn_index: 0, truncated: false },
    live: null,
    usage: { totals: {}, by_model: {} },
    tools: { generation: 0, catalog: [], error: null },
    queue: [],
    requests: [],
    processes: [],
    tasks: [],
    ...more,
  };
}

export const cursor = (position) => `sl1:1:1:${position}:s1`;

export function event(position, metadata = { position }) {
  return {
    type: "event",
    session_id: "s1",
    cursor: cursor(position),
    revision: 1,
    at_ms: position,
    kind: "resident_changed",
    data: { metadata },
  };
}

export const fresh = (position) => ({ type: "observation", cursor: cursor(position), observation: observation(position) });
export const resumed = (position) => ({ type: "resumed", cursor: cursor(position) });
export const caughtUp = (position) => ({ type: "caught_up", cursor: cursor(position) });
export const gap = (position) => ({
  type: "gap",
  cursor: cursor(position),
  gap: { session_id: "s1", reason: "trimmed", latest_cursor: cursor(position) },
  observation: observation(position),
});

/** The same frame of another session, on a connection of many. */
export function of(sessionId, frame) {
  const text = JSON.stringify({ ...frame, session_id: "s1" });
  return JSON.parse(text.replaceAll('"s1"', JSON.stringify(sessionId)).replaceAll(':s1"', `:${sessionId}"`));
}

/** Lets promises that are already decided run. */
export async function settled() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
}
