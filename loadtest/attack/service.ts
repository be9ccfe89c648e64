/** The service of an attacked deployment, its own process: the path of a request chooses an honest or a hostile answer. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const mib = 1024 * 1024;
const trickleEveryMs = 500;

function json(response: ServerResponse, body: string | Buffer, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(body);
}

/** Numbers that are longer once `JSON.stringify` writes them again. */
const growing = `[${Array.from({ length: 200_000 }, () => "1e20").join(",")}]`;
const large = JSON.stringify("x".repeat(mib - 2));
const deep = `${"[".repeat(mib / 2)}${"]".repeat(mib / 2)}`;
const rejection = `{"code":"no","message":"no","filler":${growing}}`;

const behaviours = {
  echo: (_request: IncomingMessage, response: ServerResponse) => json(response, '{"ok":true}'),
  growing: (_request: IncomingMessage, response: ServerResponse) => json(response, growing),
  large: (_request: IncomingMessage, response: ServerResponse) => json(response, large),
  deep: (_request: IncomingMessage, response: ServerResponse) => json(response, deep),
  rejection: (_request: IncomingMessage, response: ServerResponse) => json(response, rejection, 400),
  hang: () => undefined,
  endless: (_request: IncomingMessage, response: ServerResponse) => {
    response.writeHead(200, { "content-type": "application/json" });
    const filler = Buffer.alloc(64 * 1024, "1");
    const more = (): void => {
      while (!response.destroyed && response.write(filler)) continue;
    };
    response.on("drain", more);
    more();
  },
  reset: (request: IncomingMessage, response: ServerResponse) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.write('{"be');
    setImmediate(() => request.socket.resetAndDestroy());
  },
  trickle: (_request: IncomingMessage, response: ServerResponse) => {
    response.writeHead(200, { "content-type": "application/json" });
    const timer = setInterval(() => response.write(" "), trickleEveryMs);
    response.once("close", () => clearInterval(timer));
  },
};

export type Behaviour = keyof typeof behaviours;

/** Requests for the JWKS, which all fail. */
let keyFetches = 0;

const server = createServer((request, response) => {
  request.resume();
  response.on("error", () => response.destroy());
  request.on("end", () => {
    const path = new URL(request.url ?? "/", "http://service").pathname;
    if (path === "/keys") {
      keyFetches++;
      response.writeHead(503).end();
    } else if (path === "/key-fetches") json(response, String(keyFetches));
    else {
      const name = /^\/attack\.(\w+)$/.exec(path)?.[1] ?? "echo";
      const behave = Object.hasOwn(behaviours, name) ? behaviours[name as Behaviour] : behaviours.echo;
      behave(request, response);
    }
  });
});
// Attacks leave requests unfinished.
server.on("clientError", (_error, socket) => socket.destroy());
server.listen(Number(process.env["SERVICE_PORT"] ?? 0), process.env["SERVICE_HOST"] ?? "127.0.0.1", () => {
  process.stdout.write(`listening on ${(server.address() as AddressInfo).port}\n`);
});
