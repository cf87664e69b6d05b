import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import * as client from "../../web/client/index.js";

const web = new URL("../../web/", import.meta.url);

test("the package exports this and nothing else", () => {
  assert.deepEqual(Object.keys(client).sort(), [
    "ProblemError", "SessionClient", "Sessions", "UnreachableError", "backoff", "connectSession", "connection", "createApi", "deadlineOf", "fold",
    "foldAll", "openSessions", "phaseOf", "statusOf", "step", "webStorageKeeper",
  ]);
});

test("every path the package promises exists, and it depends on nothing", () => {
  const manifest = JSON.parse(readFileSync(new URL("client/package.json", web), "utf8"));
  for (const path of Object.values(manifest.exports)) readFileSync(new URL(path, new URL("client/", web)));
  assert.equal(manifest.dependencies, undefined);
});

test("no module is longer than 400 lines", () => {
  for (const folder of ["client/", "console/"]) {
    for (const name of readdirSync(new URL(folder, web))) {
      const lines = readFileSync(new URL(folder + name, web), "utf8").split("\n").length;
      assert.ok(lines <= 401, `${folder}${name} has ${lines} lines`);
    }
  }
});
