/** Requests to URLs outside: to public addresses only, with bounded connections, whatever the number of endpoints. */
import type { LookupFunction } from "node:net";
import { Pool } from "undici";
import type { Service } from "../runtime/lifecycle.ts";
import { exchange, type ExchangeResult, type Target } from "./exchange.ts";
import { guardedConnector } from "./guarded-connector.ts";
import type { InternetAddresses } from "./internet-addresses.ts";

export interface EndpointRequest {
  target: Target;
  /** Names and values in turn. */
  headers: string[];
  body: Buffer;
  /** From now to the end of the answer. */
  timeoutMs: number;
}

const connectTimeoutMs = 3_000;
/** A longer answer is cut off: only its beginning is kept. */
const maxAnswerBytes = 64 * 1024;
/** Of a response. */
const maxHeaderBytes = 16 * 1024;
/** Origins with open connections; the one that was used least recently is closed for a further one. */
const maxPools = 1_000;
/** An idle connection is kept for 4 s, or 2 s less than the endpoint says that it keeps it, up to this. */
const maxIdleMs = 60_000;
/** A request that meets the end of its connection is lost: also a process that is busy for a second must not send one. */
const idleMarginMs = 2_000;

export class EndpointClient implements Service {
  readonly #connect: ReturnType<typeof guardedConnector>;
  /** By origin, the least recently used one first. */
  readonly #pools = new Map<string, Pool>();

  /** @param options.resolve instead of the system's resolver */
  constructor(options: { addresses: InternetAddresses; resolve?: LookupFunction }) {
    this.#connect = guardedConnector({ ...options, timeoutMs: connectTimeoutMs });
  }

  /** With open connections, at most. */
  get origins(): number {
    return this.#pools.size;
  }

  async start(): Promise<void> {}

  /** Fails requests under way. */
  async stop(): Promise<void> {
    await Promise.all([...this.#pools.values()].map(async (pool) => pool.destroy()));
    this.#pools.clear();
  }

  /** Makes one attempt; a redirect is not followed. Never throws because of the network or the endpoint. */
  send({ target, headers, body, timeoutMs }: EndpointRequest): Promise<ExchangeResult> {
    const pool = this.#poolOf(target.origin);
    return exchange(pool, { url: target, headers, body, timeoutMs, asReceived: true, makeRoom: async () => false });
  }

  #poolOf(origin: string): Pool {
    const known = this.#pools.get(origin);
    const pool = known ?? this.#open(origin);
    this.#pools.delete(origin);
    this.#pools.set(origin, pool);
    return pool;
  }

  #open(origin: string): Pool {
    const [oldest] = this.#pools;
    if (oldest && this.#pools.size >= maxPools) {
      const [name, pool] = oldest;
      this.#pools.delete(name);
      // Its requests under way finish.
      void pool.close();
    }
    return new Pool(origin, {
      connect: this.#connect,
      maxResponseSize: maxAnswerBytes,
      maxHeaderSize: maxHeaderBytes,
      keepAliveMaxTimeout: maxIdleMs,
      keepAliveTimeoutThreshold: idleMarginMs,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }
}
