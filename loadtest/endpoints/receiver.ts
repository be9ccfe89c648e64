/** The URLs of all endpoints of an arena: each request is noted, and answered well or badly. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { Webhook } from "standardwebhooks";
import type { SeededRandom } from "../../test/support/seeded-random.ts";
import type { Delivery, DeliveryLedger } from "./delivery-ledger.ts";

/** What endpoints do instead of taking a request. */
export const misbehaviours = {
  "endpoint answers 5xx": (response, random) => response.writeHead(random.pick([500, 502, 503])).end(),
  "endpoint answers Retry-After": (response) => response.writeHead(429, { "retry-after": "1" }).end(),
  "endpoint hangs": () => undefined,
  "endpoint answers garbage": (_response, _random, socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
  "endpoint resets": (_response, _random, socket) => socket.resetAndDestroy(),
  "endpoint resets after the headers": (response, _random, socket) => {
    response.writeHead(200, { "content-length": 100 });
    response.write("a part of it", () => socket.resetAndDestroy());
  },
  "endpoint drips": (response) => {
    response.writeHead(200);
    const timer = setInterval(() => response.write("x"), dripEveryMs);
    response.once("close", () => clearInterval(timer));
  },
  "endpoint sends headers without an end": (response, _random, socket) => {
    socket.write("HTTP/1.1 200 OK\r\n");
    const write = (): void => {
      while (!socket.destroyed && socket.write(`x-endless: ${"y".repeat(1_000)}\r\n`));
    };
    socket.on("drain", write);
    response.once("close", () => socket.off("drain", write));
    write();
  },
} as const satisfies Readonly<
  Record<string, (response: ServerResponse, random: SeededRandom, socket: Socket) => unknown>
>;

export type Misbehaviour = keyof typeof misbehaviours;

const dripEveryMs = 50;
const maxAnswerMs = 5;
/** Part of the good answers that are compressed far below what they hold; and that are longer than is read. */
const bombPart = 0.02;
const longPart = 0.02;
const bomb = gzipSync(Buffer.alloc(4 * 1024 * 1024));
const longAnswer = Buffer.alloc(128 * 1024, "x");

interface Body {
  readonly channel: string;
  readonly epoch: string;
  readonly offset: number;
  readonly timestamp: string;
  readonly data: { readonly item: string; readonly key: string };
}

export class WebhookReceiver {
  /** Undefined: every request is taken. */
  misbehaviour: Misbehaviour | undefined;
  /** Requests that no endpoint of a running schedule expects. */
  unknown = 0;
  /** By path. */
  readonly #endpoints = new Map<string, { ledger: DeliveryLedger; webhook: Webhook }>();
  readonly #server = createServer((request, response) => void this.#receive(request, response));
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #random: SeededRandom;

  constructor(random: SeededRandom) {
    this.#random = random;
    this.#server.on("connection", (socket) => socket.on("error", () => undefined));
  }

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  urlOf(path: string): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}${path}`;
  }

  /** Notes the requests of an endpoint from now on. @param secret of its signatures */
  add(path: string, ledger: DeliveryLedger, secret: string): void {
    this.#endpoints.set(path, { ledger, webhook: new Webhook(secret) });
  }

  remove(ledger: DeliveryLedger): void {
    for (const [path, own] of this.#endpoints) if (own.ledger === ledger) this.#endpoints.delete(path);
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await textOf(request).catch(() => undefined);
    if (body === undefined) return;
    const endpoint = this.#endpoints.get(request.url ?? "");
    if (!endpoint) {
      this.unknown++;
      response.writeHead(404).end();
      return;
    }
    if (isGap(body)) {
      response.writeHead(204).end();
      return;
    }
    const delivery = deliveryOf(request, body, endpoint.webhook);
    endpoint.ledger.arrived(delivery);
    const { misbehaviour } = this;
    if (misbehaviour) misbehaviours[misbehaviour](response, this.#random, request.socket);
    else this.#take(delivery, response);
  }

  #take(delivery: Delivery, response: ServerResponse): void {
    const drawn = this.#random.next();
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        delivery.takenAt = performance.now();
        if (drawn < bombPart) response.writeHead(200, { "content-encoding": "gzip" }).end(bomb);
        else if (drawn < bombPart + longPart) response.writeHead(200).end(longAnswer);
        else response.writeHead(204).end();
      },
      this.#random.between(0, maxAnswerMs),
    );
    this.#timers.add(timer);
  }
}

function deliveryOf({ headers }: IncomingMessage, text: string, webhook: Webhook): Delivery {
  const { channel, epoch, offset, timestamp, data } = JSON.parse(text) as Body;
  return {
    ...{ channel, epoch, offset, item: data.item, key: data.key, at: Date.parse(timestamp) },
    arrivedAt: performance.now(),
    webhookId: String(headers["webhook-id"]),
    body: text,
    sequence: String(headers["tidegate-sequence"]),
    isSigned: isValid(webhook, text, headers as Record<string, string>),
  };
}

/** What a declared loss leaves in the log: no change. */
function isGap(text: string): boolean {
  return (JSON.parse(text) as { type: string }).type === "tidegate.gap";
}

function isValid(webhook: Webhook, text: string, headers: Record<string, string>): boolean {
  try {
    webhook.verify(text, headers);
    return true;
  } catch {
    return false;
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
