/** What webhooks cost that each have a reader of their own. */
import { setTimeout as pause } from "node:timers/promises";
import { Redis } from "ioredis";
import { Agent } from "undici";
import { signedPost } from "./signed-post.ts";

/** Entries that one read returns at most. */
export const polledAtOnce = 100;

export interface PolledEntry {
  readonly id: string;
  /** As it is posted. */
  readonly change: string;
}

export interface PolledLogs {
  /** What follows `pointer` in the log of the n-th reader (`id > pointer`, by an index): at most {@link polledAtOnce} entries, by id. */
  readAfter(n: number, pointer: string): Promise<readonly PolledEntry[]>;
  /** Where the n-th reader begins. */
  firstPointer(n: number): Promise<string>;
}

/** The old way: each endpoint has a reader, which asks its log every `pollMs`, and posts what it finds. No part of Tidegate is involved. */
export class PollingReaders {
  readonly #logs: PolledLogs;
  readonly #agent = new Agent();
  readonly #urls: readonly string[];
  readonly #pollMs: number;
  readonly #reading: Promise<void>[] = [];
  #stopping = false;

  constructor(options: { logs: PolledLogs; urls: readonly string[]; pollMs: number }) {
    this.#logs = options.logs;
    this.#urls = options.urls;
    this.#pollMs = options.pollMs;
  }

  /** Resolves once each reader knows where it begins. */
  async start(count: number): Promise<void> {
    const numbers = Array.from({ length: count }, (_, n) => n);
    const pointers = await Promise.all(numbers.map(async (n) => this.#logs.firstPointer(n)));
    for (const n of numbers) this.#reading.push(this.#read(n, pointers[n] ?? ""));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#reading);
    await this.#agent.close();
  }

  async #read(n: number, from: string): Promise<void> {
    const url = new URL(`${this.#urls[n % this.#urls.length]}/live/polled-${n}`);
    // Readers do not poll at the same moment.
    await pause(Math.random() * this.#pollMs);
    for (let pointer = from; !this.#stopping; await pause(this.#pollMs)) {
      for (const { id, change } of await this.#logs.readAfter(n, pointer)) {
        await signedPost(this.#agent, url, id, change);
        pointer = id;
      }
    }
  }
}

/** Logs as streams of a Redis. The caller stops it. */
export class RedisLogs implements PolledLogs {
  readonly #redis: Redis;
  readonly #logOf: (n: number) => string;

  /** @param logOf the log of the n-th reader */
  constructor(redisUrl: string, logOf: (n: number) => string) {
    this.#redis = new Redis(redisUrl, { protocol: 2 });
    this.#logOf = logOf;
  }

  async publish(log: string, change: object): Promise<void> {
    await this.#redis.xadd(log, "*", "change", JSON.stringify(change));
  }

  async firstPointer(): Promise<string> {
    return "0";
  }

  async readAfter(n: number, pointer: string): Promise<readonly PolledEntry[]> {
    const entries = await this.#redis.xrange(this.#logOf(n), `(${pointer}`, "+", "COUNT", polledAtOnce);
    return entries.map(([id, [, change = ""]]) => ({ id, change }));
  }

  stop(): void {
    this.#redis.disconnect();
  }
}
