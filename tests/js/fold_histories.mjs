// Folds the histories that come in, one JSON object a line, and answers each with what became of it: one line of JSON.

import { createInterface } from "node:readline";

import { foldAll } from "../../web/client/fold.js";

for await (const line of createInterface({ input: process.stdin })) {
  const { snapshot, events } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(foldAll(snapshot, events))}\n`);
}
