import { parseJson } from "../json/json.ts";
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { slotOf } from "../redis/slots.ts";
import {
  type Attempt,
  type AttemptLog,
  attemptsSeconds,
  type EndpointHealth,
  type FailedAttempt,
  healthSeconds,
  keptAttempts,
  type StoredAttempt,
} from "./contract.ts";
import { attemptKeys, failureText, parseHealth } from "./keys.ts";

type HealthReply = [since: string | null, last: string | null];

const addScript = script<string[]>(new URL("add-attempts.lua", import.meta.url), 2, { isBatch: true });

/** Attempts within this time are noted together. */
const togetherMs = 20;
/** Most attempts of one script call: a fraction of a millisecond of Redis, unless endpoints give long answers. */
const mostTogether = 64;

/** Attempts that one script call stores. Successful ones, which are most, need no entry of their own besides their values. */
interface Batch {
  /** Slot of its keys in a cluster, else 0. */
  readonly key: number;
  /** Keys of the first one. */
  readonly keys: readonly string[];
  /** As the script takes them. */
  readonly attempts: string[];
  readonly failures: { readonly text: string; readonly resolve: (health: EndpointHealth) => void }[];
  readonly stored: PromiseWithResolvers<void>;
}

/** Attempts at deliveries, in the Redis for data that belongs to no slot. */
export class RedisAttemptLog implements AttemptLog {
  readonly #cells: Cells;
  /** By {@link Batch.key}. */
  readonly #batches = new Map<number, Batch>();
  #timer: NodeJS.Timeout | undefined;

  constructor(cells: Cells) {
    this.#cells = cells;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    await this.#flush();
  }

  addSuccess(endpointId: string, attempt: Attempt): Promise<void> {
    const batch = this.#add(endpointId, attempt, "");
    this.#sendIfFull(batch);
    return batch.stored.promise;
  }

  addFailure(endpointId: string, attempt: FailedAttempt): Promise<EndpointHealth> {
    const text = failureText(attempt);
    return new Promise((resolve, reject) => {
      const batch = this.#add(endpointId, attempt, text);
      batch.failures.push({ text, resolve });
      batch.stored.promise.catch(reject);
      this.#sendIfFull(batch);
    });
  }

  #add(endpointId: string, attempt: Attempt, failure: string): Batch {
    const slot = slotOf(endpointId);
    const key = this.#cells.fleet.spansSlots ? 0 : slot;
    let batch = this.#batches.get(key);
    if (!batch) {
      batch = { key, keys: this.#keys(endpointId), attempts: [], failures: [], stored: Promise.withResolvers() };
      this.#batches.set(key, batch);
    }
    batch.attempts.push(`${slot} ${endpointId}\n${JSON.stringify(attempt)}\n${failure}`);
    return batch;
  }

  #sendIfFull(batch: Batch): void {
    if (batch.attempts.length >= mostTogether) {
      this.#batches.delete(batch.key);
      void this.#note(batch);
    } else this.#timer ??= setTimeout(() => void this.#flush(), togetherMs);
  }

  async attempts(
    endpointId: string,
    { limit, after }: { limit: number; after?: string },
  ): Promise<readonly StoredAttempt[]> {
    void this.#flush();
    const [attempts] = this.#keys(endpointId);
    const newest = after === undefined ? "+" : `(${after}`;
    const entries = await this.#cells.fleet.run<[id: string, fields: [string, string]][]>(
      "xrevrange",
      ...[attempts, newest, "-", "COUNT", limit],
    );
    return entries.map(([id, [, text]]) => ({ id, ...(parseJson(text) as Attempt) }));
  }

  async health(endpointIds: readonly string[]): Promise<readonly EndpointHealth[]> {
    void this.#flush();
    return Promise.all(
      endpointIds.map(async (id) => {
        const [, health] = this.#keys(id);
        return parseHealth(await this.#cells.fleet.run<HealthReply>("hmget", health, "since", "last"));
      }),
    );
  }

  async forgive(endpointId: string): Promise<void> {
    void this.#flush();
    const [, health] = this.#keys(endpointId);
    await this.#cells.fleet.run("hdel", health, "since");
  }

  async forget(endpointId: string): Promise<void> {
    void this.#flush();
    await this.#cells.fleet.run("del", ...this.#keys(endpointId));
  }

  /** Sends what was added, before any later command about the same endpoints. Never rejects. */
  async #flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const batches = [...this.#batches.values()];
    this.#batches.clear();
    await Promise.all(batches.map(async (batch) => this.#note(batch)));
  }

  async #note({ keys, attempts, failures, stored }: Batch): Promise<void> {
    try {
      const kept = [keptAttempts, attemptsSeconds, healthSeconds];
      const replies = await this.#cells.fleet.run(addScript, ...keys, ...kept, ...attempts);
      for (const [at, { text, resolve }] of failures.entries()) resolve(parseHealth([replies[at] ?? null, text]));
      stored.resolve();
    } catch (error) {
      stored.reject(error);
    }
  }

  #keys(endpointId: string): ReturnType<typeof attemptKeys> {
    return attemptKeys(this.#cells.fleet.root, endpointId);
  }
}
