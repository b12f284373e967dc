// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// A reverse proxy as operators have one: everything under a prefix goes on to the daemon without it,
// WebSockets too. The Host that the daemon sees is its own; the asker's is in X-Forwarded-Host.
//
//   node proxy.mjs PREFIX PORT-OF-THE-DAEMON [OWN-PORT]     prints its own port
import { createServer, request } from "node:http";

const [prefix, port] = process.argv.slice(2);
const options = ({ url, method, headers }) => ({
  host: "127.0.0.1", port, method, path: url.slice(prefix.length) || "/",
  headers: { ...headers, host: `127.0.0.1:${port}`, "x-forwarded-host": headers.host },
});
const server = createServer((asked, answer) => {
  if (!asked.url.startsWith(`${prefix}/`)) {
    answer.writeHead(404).end();
    return;
  }
  const onward = request(options(asked), (said) => {
    answer.writeHead(said.statusCode, said.headers);
    said.pipe(answer);
  });
  onward.on("error", () => answer.destroy());
  asked.pipe(onward);
});
server.on("upgrade", (asked, socket) => {
  const onward = request(options(asked));
  onward.on("upgrade", (said, far) => {
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${said.rawHeaders.map((word, i) => (i % 2 ? `${word}\r\n` : `${word}: `)).join("")}\r\n`);
    far.pipe(socket).pipe(far);
    far.on("error", () => socket.destroy());
    socket.on("error", () => far.destroy());
  });
  onward.on("error", () => socket.destroy());
  onward.end();
});
server.listen(Number(process.argv[4] ?? 0), "127.0.0.1", () => console.log(server.address().port));
