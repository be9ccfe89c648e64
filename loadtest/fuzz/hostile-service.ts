/** A service on a bare socket: gives the planned answers, and correct ones where nothing is planned. */
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { grantedNamespace } from "./names.ts";
import type { Live } from "./parts.ts";
import { answer, type Plans } from "./plans.ts";

const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const key = publicKey.export({ format: "jwk" });
const keySets = [
  JSON.stringify({ keys: [{ ...key, kid: "k1", alg: "ES256", use: "sig" }] }),
  "",
  '{"keys":[]}',
  "{",
  JSON.stringify({ keys: [{ ...key, x: "" }, null, { kty: "oct", k: "AA" }, { kty: "__proto__" }] }),
  '{"keys":{"length":1e9}}',
];

export class HostileService {
  readonly #plans: Plans;
  readonly #live: Live;
  #keySet = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#serve(socket));

  constructor(plans: Plans, live: Live) {
    this.#plans = plans;
    this.#live = live;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  /** The JWKS of an issuer that often fails. */
  #keys(): string {
    const body = keySets[this.#keySet++ % keySets.length] ?? "";
    const status = body === "" ? "500 x" : "200 OK";
    return `HTTP/1.1 ${status}\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    let received = "";
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
      for (let request = firstRequest(received); request !== undefined; request = firstRequest(received)) {
        received = received.slice(request.length);
        this.#answer(request, socket);
      }
    });
  }

  #answer(request: string, socket: Socket): void {
    // The event of a call is in a header, without quotes.
    const steps = this.#plans.find(request.replace(/^ce-type: (.*)$/m, '"$1"'));
    if (steps) void answer(steps, socket, this.#live, (line) => socket.write(line));
    else if (request.includes(`"channel":"${grantedNamespace}:`)) socket.write("HTTP/1.1 204 x\r\n\r\n");
    else if (request.startsWith("POST /tidegate/subscribe"))
      socket.write("HTTP/1.1 403 x\r\ncontent-length: 0\r\n\r\n");
    else if (request.startsWith("GET /jwks")) socket.write(this.#keys());
    else socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
  }
}

/** The first request with its body; undefined while it is incomplete. */
function firstRequest(received: string): string | undefined {
  const end = received.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const length = Number(/^content-length: (\d+)/im.exec(received.slice(0, end))?.[1] ?? 0);
  const until = end + 4 + length;
  return received.length < until ? undefined : received.slice(0, until);
}
