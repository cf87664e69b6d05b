/**
 * Addresses of the wire under a base URL, which may carry a path of its own (`https://example.org/agents`).
 */

/** @typedef {Record<string, string | number | null | undefined>} Query values that are null or undefined are left out */

/**
 * @param {string} baseUrl
 * @param {string} path begins with a slash
 * @param {Query} [query]
 * @returns {string}
 */
export function address(baseUrl, path, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value != null) params.set(name, String(value));
  const search = params.toString();
  return baseUrl.replace(/\/+$/, "") + path + (search && `?${search}`);
}

/**
 * @param {string} sessionId
 * @param {string} [rest]
 */
export function sessionPath(sessionId, rest = "") {
  return `/v1/sessions/${encodeURIComponent(sessionId)}${rest}`;
}

/**
 * @param {string} processId
 * @param {string} [rest]
 */
export function processPath(processId, rest = "") {
  return `/v1/processes/${encodeURIComponent(processId)}${rest}`;
}

/**
 * The same address for a WebSocket.
 *
 * @param {string} url
 */
export function asWebSocket(url) {
  return url.replace(/^http/, "ws");
}

/** @returns {string} the page's own server */
export function ownOrigin() {
  if (typeof location === "undefined") throw new TypeError("outside a page, baseUrl must be given");
  return location.origin;
}
