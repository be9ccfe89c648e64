/** What a signed POST costs, and what webhooks cost that each have a reader of their own: nothing of Tidegate but its signature and its pulls. */
import { setTimeout as pause } from "node:timers/promises";
import { Pool } from "undici";
import { newSecret, secretKey } from "../../shared/endpoints/secrets.ts";
import { signWebhook } from "../../shared/services/standard-webhooks.ts";
import type { HookBody } from "../providers/load-messages.ts";
import type { OwnDeployment } from "./fleet.ts";

const warmUpPosts = 2_000;
const webhookKey = secretKey(newSecret());

async function post(pool: Pool, path: string, id: string, change: object): Promise<void> {
  if (!webhookKey) throw new Error("a new secret has no key");
  const text = JSON.stringify(change);
  const headers = { "content-type": "application/json", ...signWebhook(id, text, [{ webhookKey }], new Date()) };
  const answer = await pool.request({ path, method: "POST", headers, body: text });
  await answer.body.dump();
}

/** CPU of this process for a signed POST with the body of a delivery, in µs. Nothing else may run in it. */
export async function barePostMicros(url: string, posts: number, atOnce: number): Promise<number> {
  const pool = new Pool(url, { connections: atOnce });
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
      while (left-- > 0) await post(pool, "/bare/0", `webhook-${left}`, change);
    });
    await Promise.all(senders);
  };
  await send(warmUpPosts);
  const before = process.cpuUsage();
  await send(posts);
  const { user, system } = process.cpuUsage(before);
  await pool.close();
  return (user + system) / posts;
}

interface Pulled {
  changes: { epoch: string; offset: number }[];
  cursor: string;
}

/** The old way: each endpoint has a reader, which asks every `pollMs` for what follows its pointer, and posts it. */
export class PollingReaders {
  readonly #deployment: OwnDeployment;
  readonly #pool: Pool;
  readonly #pollMs: number;
  readonly #reading: Promise<void>[] = [];
  #stopping = false;

  constructor(deployment: OwnDeployment, options: { url: string; pollMs: number }) {
    this.#deployment = deployment;
    this.#pollMs = options.pollMs;
    this.#pool = new Pool(options.url);
  }

  /** Resolves once each has its pointer. */
  async start(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      let pulled = await this.#pull("end");
      while (!pulled) pulled = await this.#pull("end");
      this.#reading.push(this.#read(`/live/polled-${n}`, pulled.cursor));
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#reading);
    await this.#pool.close();
  }

  async #read(path: string, begin: string): Promise<void> {
    for (let from = begin; !this.#stopping; await pause(this.#pollMs)) {
      const pulled = await this.#pull(from);
      if (!pulled) continue;
      for (const change of pulled.changes) await post(this.#pool, path, `${change.epoch}-${change.offset}`, change);
      from = pulled.cursor;
    }
  }

  /** Undefined where the private API has too much to do: the next poll asks again. */
  async #pull(cursor: string): Promise<Pulled | undefined> {
    const { privateApi, privateApiToken } = this.#deployment;
    const headers = { authorization: `Bearer ${privateApiToken}` };
    const answer = await fetch(`${privateApi}/v1/changes?channels=load:*&cursor=${cursor}`, { headers });
    if (answer.ok) return (await answer.json()) as Pulled;
    await answer.body?.cancel();
    return undefined;
  }
}
