/** What a signed POST costs, and what webhooks cost that each have a reader of their own: nothing of Tidegate but its signature. */
import { setTimeout as pause } from "node:timers/promises";
import { Redis } from "ioredis";
import { Agent } from "undici";
import { newSecret, secretKey } from "../../shared/endpoints/secrets.ts";
import { signWebhook } from "../../shared/services/standard-webhooks.ts";
import { type HookBody, nowMs } from "../providers/load-messages.ts";

const webhookKey = secretKey(newSecret());

/** With the headers of a delivery. */
async function post(agent: Agent, url: URL, id: string, text: string): Promise<void> {
  if (!webhookKey) throw new Error("a new secret has no key");
  const headers = {
    "content-type": "application/json",
    "accept-encoding": "identity",
    "user-agent": "tidegate",
    ...signWebhook(id, text, [{ webhookKey }], new Date()),
    "tidegate-attempt": "1",
    "tidegate-key": "load:bare",
    "tidegate-sequence": "00000000000000000001",
  };
  const answer = await agent.request({ origin: url.origin, path: url.pathname, method: "POST", headers, body: text });
  await answer.body.dump();
}

/** Signed POSTs with the body and the headers of a delivery, to the same receivers, and nothing else. The caller stops it. */
export class BarePosts {
  readonly #agent = new Agent();
  readonly #urls: readonly URL[];
  readonly #atOnce: number;

  /** @param options.urls one connection each, at least @param options.atOnce posts under way */
  constructor({ urls, atOnce }: { urls: readonly string[]; atOnce: number }) {
    this.#urls = urls.map((url) => new URL(`${url}/bare/0`));
    this.#atOnce = atOnce;
  }

  /** @returns CPU of this process for each, in µs. Nothing else may run in it. */
  async measure(posts: number): Promise<number> {
    const data: HookBody = { group: "bursta", key: "load:50:bursta-10", tenant: "", n: 1, at: nowMs() };
    const timestamp = new Date().toISOString();
    // Written once for all endpoints of a change, as by a private API.
    const text = JSON.stringify({ type: "moved", timestamp, channel: data.key, epoch: "0123abcd", offset: 1, data });
    const before = process.cpuUsage();
    let left = posts;
    const senders = Array.from({ length: this.#atOnce }, async () => {
      while (left-- > 0) {
        const url = this.#urls[left % this.#urls.length];
        if (url) await post(this.#agent, url, `${left}`.padStart(32, "w"), text);
      }
    });
    await Promise.all(senders);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / posts;
  }

  async stop(): Promise<void> {
    await this.#agent.close();
  }
}

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
        await post(this.#agent, url, id, change);
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
