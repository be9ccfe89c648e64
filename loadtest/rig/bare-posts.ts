/** What a signed POST costs, and what webhooks cost that each have a reader of their own: nothing of Tidegate but its signature. */
import { setTimeout as pause } from "node:timers/promises";
import { Redis } from "ioredis";
import { Agent } from "undici";
import { newSecret, secretKey } from "../../shared/endpoints/secrets.ts";
import { signWebhook } from "../../shared/services/standard-webhooks.ts";
import type { HookBody } from "../providers/load-messages.ts";

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

/**
 * CPU of this process for a signed POST with the body and the headers of a delivery, in µs. Nothing else may run in it.
 * @param options.urls one connection each, at least @param options.atOnce posts under way
 */
export async function barePostMicros(options: {
  urls: readonly string[];
  posts: number;
  atOnce: number;
}): Promise<number> {
  const { posts, atOnce } = options;
  const agent = new Agent();
  const urls = options.urls.map((url) => new URL(`${url}/bare/0`));
  const data: HookBody = { group: "bare", key: "load:bare", tenant: "", n: 1, at: 0 };
  const change = {
    type: "moved",
    timestamp: new Date().toISOString(),
    channel: data.key,
    epoch: "0123abcd",
    offset: 1,
    data,
  };
  const send = async (count: number): Promise<void> => {
    let left = count;
    const senders = Array.from({ length: atOnce }, async () => {
      while (left-- > 0) {
        const url = urls[left % urls.length];
        if (url) await post(agent, url, `webhook-${left}`, JSON.stringify(change));
      }
    });
    await Promise.all(senders);
  };
  await send(posts);
  const before = process.cpuUsage();
  await send(posts);
  const { user, system } = process.cpuUsage(before);
  await agent.close();
  return (user + system) / posts;
}

/** Entries that one read returns at most. */
const readAtOnce = 100;

/**
 * The old way: each endpoint has a reader, which asks every `pollMs` for what follows its pointer in the log of what it wants (`id > pointer`, by an
 * index), and posts it. The logs are streams of a Redis; no part of Tidegate is involved.
 */
export class PollingReaders {
  readonly #redis: Redis;
  readonly #agent = new Agent();
  readonly #urls: readonly string[];
  readonly #logOf: (n: number) => string;
  readonly #pollMs: number;
  readonly #reading: Promise<void>[] = [];
  #stopping = false;

  /** @param options.logOf the log of the n-th reader */
  constructor(options: { redisUrl: string; urls: readonly string[]; logOf: (n: number) => string; pollMs: number }) {
    this.#redis = new Redis(options.redisUrl, { protocol: 2 });
    this.#urls = options.urls;
    this.#logOf = options.logOf;
    this.#pollMs = options.pollMs;
  }

  start(count: number): void {
    for (let n = 0; n < count; n++) this.#reading.push(this.#read(n));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#reading);
    await this.#agent.close();
    this.#redis.disconnect();
  }

  async publish(log: string, change: object): Promise<void> {
    await this.#redis.xadd(log, "*", "change", JSON.stringify(change));
  }

  async #read(n: number): Promise<void> {
    const url = new URL(`${this.#urls[n % this.#urls.length]}/live/polled-${n}`);
    const log = this.#logOf(n);
    // Readers do not poll at the same moment.
    await pause(Math.random() * this.#pollMs);
    for (let pointer = "0"; !this.#stopping; await pause(this.#pollMs)) {
      const entries = await this.#redis.xrange(log, `(${pointer}`, "+", "COUNT", readAtOnce);
      for (const [id, [, change = ""]] of entries) {
        await post(this.#agent, url, id, change);
        pointer = id;
      }
    }
  }
}
