// The Durable Streams reference server, in memory: `node durable_streams.mjs FOLDER PORT`. Packages come from
// FOLDER/node_modules.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, port] = process.argv.slice(2);
const entry = createRequire(`${folder}/`).resolve("@durable-streams/server");
const { DurableStreamTestServer } = await import(pathToFileURL(entry));

await new DurableStreamTestServer({ host: "127.0.0.1", port: Number(port), compression: false }).start();
console.log("ready");
