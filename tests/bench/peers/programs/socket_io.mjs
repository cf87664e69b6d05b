// A Socket.IO server: `node socket_io.mjs FOLDER PORT INGEST`. Packages come from FOLDER/node_modules. Observers ask
// with ?channel=N; lines "N PAYLOAD" on INGEST are emitted to room N.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createServer as createTcpServer } from "node:net";

const [folder, port, ingest] = process.argv.slice(2);
const { Server } = createRequire(`${folder}/`)("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });
io.on("connection", (socket) => socket.join(socket.handshake.query.channel));

const lines = createTcpServer((socket) => {
  let rest = "";
  socket.setEncoding("latin1");
  socket.on("data", (data) => {
    const all = (rest + data).split("\n");
    rest = all.pop();
    for (const line of all) {
      const space = line.indexOf(" ");
      io.to(line.slice(0, space)).emit("event", line.slice(space + 1));
    }
  });
  socket.on("error", () => {});
});

http.listen(Number(port), "127.0.0.1", () => lines.listen(Number(ingest), "127.0.0.1", () => console.log("ready")));
