/** A private API that speaks the relay's protocol and gives the planned answers. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type Line, LineSplitter } from "../../shared/json/lines.ts";
import {
  maxQuestionLineBytes,
  readRelayLine,
  relayContentType,
  relayFromGateway,
} from "../../shared/protocol/relay.ts";
import type { Live } from "./parts.ts";
import { answer, type Plans } from "./plans.ts";

/** A gateway retries an address after up to 2 s: with several addresses, one is always available. */
const addresses = 6;

export class HostilePrivateApi {
  readonly #plans: Plans;
  readonly #live: Live;
  readonly #servers: readonly Server[];

  constructor(plans: Plans, live: Live) {
    this.#plans = plans;
    this.#live = live;
    this.#servers = Array.from({ length: addresses }, () =>
      createServer((request, response) => this.#serve(request, response)),
    );
  }

  get urls(): string[] {
    return this.#servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  async start(): Promise<void> {
    for (const server of this.#servers) {
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
    }
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    }
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    request.on("error", () => response.destroy());
    response.on("error", () => response.destroy());
    response.writeHead(200, { "content-type": relayContentType });
    response.flushHeaders();
    const lines = new LineSplitter(maxQuestionLineBytes);
    request.on("data", (chunk: Buffer) => {
      for (const line of lines.push(chunk)) this.#answer(line, response);
    });
    request.on("end", () => response.end());
    socket.on("error", () => socket.destroy());
  }

  #answer(line: Line, response: ServerResponse): void {
    const read = readRelayLine(line, relayFromGateway);
    const { socket } = response;
    if (read.kind === "unreadable" || "hello" in read.head || !socket) return;
    const { id, kind } = read.head;
    const { jwtSecret } = this.#live;
    const live: Live = { jwtSecret, value: (name) => (name === "id" ? String(id) : this.#live.value(name)) };
    const writeLine = (text: Buffer | string): void => {
      if (response.writable) response.write(text);
    };
    const steps = this.#plans.find(line.bytes.toString("latin1"));
    if (steps) void answer(steps, socket, live, writeLine);
    else if (kind === "subscribe")
      writeLine(`{"id":${id},"ok":false,"error":{"code":"channel_not_allowed","message":"","retryable":false}}\n`);
    else writeLine(`{"id":${id},"ok":true}\t{}\n`);
  }
}
