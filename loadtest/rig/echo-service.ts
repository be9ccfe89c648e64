/** A service that answers each request after ECHO_DELAY_MS (default 0). Its own process keeps its CPU out of the figures. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const delayMs = Number(process.env["ECHO_DELAY_MS"] ?? 0);
const answer = (response: ServerResponse): void => {
  response.writeHead(200, { "content-type": "application/json" });
  response.end('{"ok":true}');
};
const server = createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    if (delayMs === 0) answer(response);
    else setTimeout(() => answer(response), delayMs);
  });
});
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`listening on ${(server.address() as AddressInfo).port}\n`);
});
