import { slotTagOf } from "../channels/keys.ts";
import { parseJson } from "../json/json.ts";
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import {
  type Attempt,
  type AttemptLog,
  attemptsSeconds,
  type EndpointHealth,
  healthSeconds,
  keptAttempts,
  type StoredAttempt,
} from "./contract.ts";
import { attemptKeys, failureText, parseHealth } from "./keys.ts";

type HealthReply = [since: string | null, last: string | null];

const addScript = script<HealthReply[]>(new URL("add-attempts.lua", import.meta.url), 2, { isBatch: true });

/** Attempts within this time are noted together. */
const togetherMs = 20;
/** In one script call: a fraction of a millisecond of Redis, without long answers of endpoints. */
const mostTogether = 64;

interface Added {
  readonly endpointId: string;
  readonly attempt: Attempt;
  readonly resolve: (health: EndpointHealth) => void;
  readonly reject: (error: unknown) => void;
}

/** Attempts at deliveries, on the Redis that holds what belongs to no slot. */
export class RedisAttemptLog implements AttemptLog {
  readonly #cells: Cells;
  #added: Added[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(cells: Cells) {
    this.#cells = cells;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    await this.#flush();
  }

  add(endpointId: string, attempt: Attempt): Promise<EndpointHealth> {
    return new Promise((resolve, reject) => {
      this.#added.push({ endpointId, attempt, resolve, reject });
      if (this.#added.length >= mostTogether) void this.#flush();
      else this.#timer ??= setTimeout(() => void this.#flush(), togetherMs);
    });
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
    const added = this.#added;
    this.#added = [];
    const { root, spansSlots } = this.#cells.fleet;
    if (spansSlots) return this.#note(added);
    const groups = Map.groupBy(added, ({ endpointId }) => slotTagOf(root, endpointId));
    await Promise.all([...groups.values()].map(async (group) => this.#note(group)));
  }

  async #note(group: readonly Added[]): Promise<void> {
    const [first] = group;
    if (!first) return;
    const listed: (string | number)[] = [];
    for (const { endpointId, attempt } of group) {
      const [attempts, health] = this.#keys(endpointId);
      listed.push(attempts, health, JSON.stringify(attempt), attempt.at, failureText(attempt));
    }
    try {
      const replies = await this.#cells.fleet.run(
        addScript,
        ...this.#keys(first.endpointId),
        ...[keptAttempts, attemptsSeconds, healthSeconds, ...listed],
      );
      for (const [at, { resolve }] of group.entries()) resolve(parseHealth(replies[at] ?? [null, null]));
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }

  #keys(endpointId: string): ReturnType<typeof attemptKeys> {
    return attemptKeys(this.#cells.fleet.root, endpointId);
  }
}
