/** The service that gets the items: it keeps the ledger, and misbehaves where a fault asks it to. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Delivery } from "./items.ts";
import type { KeyLedger } from "./key-ledger.ts";

/** The data of the checker's items. */
export interface ItemData {
  readonly key: string;
  readonly n: number;
}

/** What happens to one delivery. `take`: of a batch so many items. */
export type Treatment =
  | { kind: "take"; count: number; afterMs: number }
  | { kind: "refuse"; status: number; retryAfterSeconds?: number }
  /** No answer until the caller gives up. */
  | { kind: "hang" }
  /** Takes it, and sends the answer's body byte by byte, for so long. */
  | { kind: "drip"; forMs: number };

export type Treat = (delivery: Delivery, ledger: KeyLedger) => Treatment;

const maxBodyBytes = 1024 * 1024;
const dripEveryMs = 50;

export class Receiver {
  /** Requests that no ledger of this run knows. */
  unknown = 0;
  readonly #ledgers = new Map<string, KeyLedger>();
  readonly #server = createServer((request, response) => void this.#receive(request, response));
  readonly #timers = new Set<NodeJS.Timeout>();
  #treat: Treat;

  constructor(treat: Treat = (delivery) => ({ kind: "take", count: delivery.numbers.length, afterMs: 0 })) {
    this.#treat = treat;
  }

  /** From now on; the last one wins. */
  set treat(treat: Treat) {
    this.#treat = treat;
  }

  add(ledger: KeyLedger): void {
    this.#ledgers.set(ledger.key, ledger);
  }

  remove(key: string): void {
    this.#ledgers.delete(key);
  }

  async start(port = 0, host = "127.0.0.1"): Promise<void> {
    this.#server.listen(port, host);
    await once(this.#server, "listening");
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}`;
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const items = await readItems(request).catch(() => undefined);
    if (!items) {
      // Nothing was delivered: its connection broke, or it is no request of a dispatcher.
      response.writeHead(400).end();
      return;
    }
    const ledger = this.#ledgers.get(items[0]?.key ?? "");
    if (!ledger || items.some(({ key, n }) => key !== ledger.key || n > ledger.emitted)) {
      this.unknown++;
      response.writeHead(404).end();
      return;
    }
    const header = (name: string): string => String(request.headers[name] ?? "");
    const delivery = ledger.arrived({
      at: performance.now(),
      id: header("ce-id"),
      sequence: header("ce-sequence"),
      previous: request.headers["ce-previous"]?.toString(),
      fence: header("ce-fence"),
      attempt: Number(header("tidegate-attempt")),
      numbers: items.map(({ n }) => n),
    });
    // A caller that gives up ends the connection: the response is closed some turns of the event loop later only.
    const { socket } = request;
    const ended = (): void => {
      delivery.endedAt ??= performance.now();
      socket.off("end", ended);
    };
    socket.once("end", ended);
    response.once("close", ended);
    if (delivery.isStale) answer(response, delivery, 409);
    else this.#answer(response, delivery, ledger);
  }

  #answer(response: ServerResponse, delivery: Delivery, ledger: KeyLedger): void {
    const treatment = this.#treat(delivery, ledger);
    switch (treatment.kind) {
      case "hang":
        return;
      case "refuse": {
        const { status, retryAfterSeconds } = treatment;
        return answer(response, delivery, status, retryAfterSeconds);
      }
      case "take":
        return this.#after(treatment.afterMs, () => {
          ledger.taken(delivery, treatment.count);
          const isPart = treatment.count < delivery.numbers.length;
          answer(response, delivery, 200, undefined, isPart ? { done: treatment.count } : {});
        });
      case "drip":
        ledger.taken(delivery, delivery.numbers.length);
        response.writeHead(200, { "content-type": "application/json" });
        return this.#drip(response, performance.now() + treatment.forMs);
    }
  }

  #drip(response: ServerResponse, until: number): void {
    if (response.closed) return;
    if (performance.now() > until) response.end("{}");
    else {
      response.write(" ");
      this.#after(dripEveryMs, () => this.#drip(response, until));
    }
  }

  #after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }
}

function answer(
  response: ServerResponse,
  delivery: Delivery,
  status: number,
  retryAfterSeconds?: number,
  body: object = {},
): void {
  delivery.answered = delivery.endedAt === undefined;
  delivery.endedAt ??= performance.now();
  response.writeHead(status, {
    "content-type": "application/json",
    ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) }),
  });
  response.end(JSON.stringify(body));
}

/** One item, or a batch of them. @throws where the body is none of the checker's */
async function readItems(request: IncomingMessage): Promise<ItemData[]> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new Error(`a body over ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  const body = JSON.parse(Buffer.concat(chunks).toString()) as unknown;
  const items = (Array.isArray(body) ? body : [body]) as Partial<ItemData>[];
  if (items.length === 0) throw new Error("an empty batch");
  return items.map(({ key, n }) => {
    if (typeof key !== "string" || !Number.isInteger(n)) throw new Error("no item of the checker");
    return { key, n: Number(n) };
  });
}
