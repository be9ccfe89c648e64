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

const addScript = script<HealthReply>(new URL("add-attempt.lua", import.meta.url), 2);

/** Attempts at deliveries, on the Redis that holds what belongs to no slot. */
export class RedisAttemptLog implements AttemptLog {
  readonly #cells: Cells;

  constructor(cells: Cells) {
    this.#cells = cells;
  }

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async add(endpointId: string, attempt: Attempt): Promise<EndpointHealth> {
    const reply = await this.#cells.fleet.run(
      addScript,
      ...this.#keys(endpointId),
      ...[keptAttempts, attemptsSeconds, healthSeconds, JSON.stringify(attempt), attempt.at, failureText(attempt)],
    );
    return parseHealth(reply);
  }

  async attempts(
    endpointId: string,
    { limit, after }: { limit: number; after?: string },
  ): Promise<readonly StoredAttempt[]> {
    const [attempts] = this.#keys(endpointId);
    const newest = after === undefined ? "+" : `(${after}`;
    const entries = await this.#cells.fleet.run<[id: string, fields: [string, string]][]>(
      "xrevrange",
      ...[attempts, newest, "-", "COUNT", limit],
    );
    return entries.map(([id, [, text]]) => ({ id, ...(parseJson(text) as Attempt) }));
  }

  async health(endpointIds: readonly string[]): Promise<readonly EndpointHealth[]> {
    return Promise.all(
      endpointIds.map(async (id) => {
        const [, health] = this.#keys(id);
        return parseHealth(await this.#cells.fleet.run<HealthReply>("hmget", health, "since", "last"));
      }),
    );
  }

  async forgive(endpointId: string): Promise<void> {
    const [, health] = this.#keys(endpointId);
    await this.#cells.fleet.run("hdel", health, "since");
  }

  async forget(endpointId: string): Promise<void> {
    await this.#cells.fleet.run("del", ...this.#keys(endpointId));
  }

  #keys(endpointId: string): ReturnType<typeof attemptKeys> {
    return attemptKeys(this.#cells.fleet.root, endpointId);
  }
}
