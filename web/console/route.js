/**
 * Where the page is: `#/s/<session id>`, or nowhere. In the address, so that a reload and a second tab land in the same place.
 */

const PREFIX = "#/s/";

/**
 * @param {string} hash
 * @returns {string | null} the session id
 */
export function sessionOf(hash) {
  if (!hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(hash.slice(PREFIX.length)) || null;
  } catch {
    return null;
  }
}

/** @param {string} sessionId */
export function hashOf(sessionId) {
  return PREFIX + encodeURIComponent(sessionId);
}
