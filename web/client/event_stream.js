/**
 * The `text/event-stream` format, read piece by piece: pieces may end anywhere, also between a CR and its LF.
 */

/** @typedef {{event: string, id: string | undefined, data: string}} StreamedEvent */

export class EventStreamParser {
  #rest = "";
  #skipLineFeed = false;
  #first = true;
  #event = "";
  /** @type {string | undefined} */
  #id;
  /** @type {string[]} */
  #data = [];

  /**
   * @param {string} piece
   * @returns {StreamedEvent[]} the events that this piece completed
   */
  push(piece) {
    if (this.#first && piece.length > 0) {
      this.#first = false;
      if (piece.charCodeAt(0) === 0xfeff) piece = piece.slice(1);
    }
    if (this.#skipLineFeed && piece.length > 0) {
      this.#skipLineFeed = false;
      if (piece.startsWith("\n")) piece = piece.slice(1);
    }
    /** @type {StreamedEvent[]} */
    const events = [];
    let start = 0;
    for (const end of piece.matchAll(/\r\n|\n|\r/g)) {
      const event = this.#line(this.#rest + piece.slice(start, end.index));
      if (event) events.push(event);
      this.#rest = "";
      start = end.index + end[0].length;
    }
    this.#skipLineFeed ||= piece.endsWith("\r");
    this.#rest += piece.slice(start);
    return events;
  }

  /**
   * @param {string} line
   * @returns {StreamedEvent | null}
   */
  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  /** @returns {StreamedEvent | null} */
  #dispatch() {
    const [event, data] = [this.#event || "message", this.#data];
    this.#event = "";
    this.#data = [];
    return data.length ? { event, id: this.#id, data: data.join("\n") } : null;
  }
}
