/** Publishes changes to endpoints of one deployment, and measures when they arrive and what they cost. */
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../../test/support/eventually.ts";
import { Histogram } from "../checks/histogram.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { inBatches } from "../clients/batches.ts";
import { type HookBody, nowMs } from "../providers/load-messages.ts";
import type { OwnDeployment } from "./fleet.ts";
import { type HookSink, slowGroup } from "./hook-sink.ts";
import { callPrivateApi } from "./private-api.ts";
import { type RedisUse, RedisUseReader, useSince } from "./redis-use.ts";

const deliveredWithinMs = 240_000;
const publishEveryMs = 2;
/** Of one publish call. */
const batchSize = 1_000;

/** `dead`: nothing listens there. `silent`: it takes the request and does not answer. `down`: see {@link HookSink.fail}. */
export type EndpointKind = "live" | "slow" | "dead" | "silent" | "down";

/** Changes of one phase. */
export interface ChangeLoad {
  /** Infinity: all at once. */
  readonly perSecond: number;
  readonly changes: number;
  /** Each change goes to every endpoint, or to none, in place of one cohort of them. */
  readonly to?: "all" | "none";
  /** In place of the private API. */
  readonly publish?: (channel: string, change: object) => Promise<void>;
}

export interface Phase {
  readonly changes: number;
  readonly deliveries: number;
  /** Deliveries. */
  readonly perSecond: number;
  readonly seconds: number;
  /** From when the change is due until the endpoint has the request. */
  readonly liveMs: Histogram;
  readonly slowMs: Histogram;
  readonly apiCpuMs: number;
  /** Of the process that publishes. */
  readonly ownCpuMs: number;
  readonly redis: RedisUse;
  /** Of the endpoints, when the phase ends. */
  readonly connections: number;
}

export class EndpointBench {
  readonly #deployment: OwnDeployment;
  readonly #token: string;
  readonly #sink: HookSink;
  readonly #redis: RedisUseReader;
  readonly #cohorts: number;
  readonly #channels: number;
  readonly #ids: Record<EndpointKind, string[]> = { live: [], slow: [], dead: [], silent: [], down: [] };

  /**
   * @param options.token with the scope `endpoints`
   * @param options.cohorts endpoints of one want the same channels
   * @param options.channels of each cohort
   */
  constructor(options: {
    deployment: OwnDeployment;
    token: string;
    sink: HookSink;
    cohorts: number;
    channels: number;
  }) {
    this.#deployment = options.deployment;
    this.#token = options.token;
    this.#sink = options.sink;
    this.#cohorts = options.cohorts;
    this.#channels = options.channels;
    this.#redis = new RedisUseReader(options.deployment.redisUrl);
  }

  stop(): void {
    this.#redis.stop();
  }

  /**
   * The n-th of a kind belongs to cohort n, counted round.
   * @param channels that they want in place of those of the cohort
   * @returns the ids of these
   */
  async create(kind: EndpointKind, count: number, channels?: readonly string[]): Promise<readonly string[]> {
    const urls = kind === "dead" ? ["http://127.0.0.1:9"] : await this.#sink.urls();
    const first = this.#ids[kind].length;
    const created = await inBatches(
      Array.from({ length: count }, (_, n) => first + n),
      async (n) => {
        const url = `${urls[n % urls.length]}/${kind}/${n}`;
        const endpoint = { url, channels: channels ?? [`${this.prefixOf(n)}*`, "load:all:*"] };
        return this.#call("POST", "/v1/endpoints", endpoint) as Promise<{ id: string }>;
      },
    );
    const ids = created.map(({ id }) => id);
    this.#ids[kind].push(...ids);
    return ids;
  }

  /** Begins the channels that the n-th endpoint of a kind wants. */
  prefixOf(n: number): string {
    return `load:${n % this.#cohorts}:`;
  }

  /** All but the first `kept`. */
  async remove(kind: EndpointKind, kept = 0): Promise<void> {
    await inBatches(this.#ids[kind].splice(kept), async (id) => {
      const headers = { authorization: `Bearer ${this.#token}` };
      await fetch(`${this.#deployment.privateApi}/v1/endpoints/${id}`, { method: "DELETE", headers });
    });
  }

  /**
   * Publishes, and waits until every receiver has every change.
   * @param name letters @param receivers by kind, how many get changes; the endpoints that answer where it is left out
   */
  async measure(
    name: string,
    load: ChangeLoad,
    receivers: readonly number[] = [this.#ids.live.length, this.#ids.slow.length],
  ): Promise<Phase> {
    await this.#sink.figures();
    const deliveries = this.#deliveriesOf(load, receivers);
    const receivedBefore = this.#sink.received;
    const before = { redis: await this.#redis.read(), apiMs: this.#apiMs(), own: process.cpuUsage() };
    const from = performance.now();
    await this.#publish(name, load);
    await eventually(() => this.#sink.received - receivedBefore >= deliveries, deliveredWithinMs);
    const seconds = (performance.now() - from) / 1_000;
    const apiCpuMs = this.#apiMs() - before.apiMs;
    const own = process.cpuUsage(before.own);
    const redis = useSince(before.redis, await this.#redis.read());
    const { waitMs, connections } = await this.#sink.figures();
    const of = (group: string): Histogram => {
      const histogram = new Histogram();
      const json = waitMs[group];
      if (json) histogram.merge(json);
      return histogram;
    };
    return {
      ...{ changes: load.changes, deliveries, perSecond: deliveries / seconds, seconds },
      ...{ liveMs: of(name), slowMs: of(slowGroup(name)), redis, connections },
      ...{ apiCpuMs, ownCpuMs: (own.user + own.system) / 1_000 },
    };
  }

  #apiMs(): number {
    return cpuMsByRole(this.#deployment.processes).get("private-api") ?? 0;
  }

  #deliveriesOf({ changes, to }: ChangeLoad, receivers: readonly number[]): number {
    if (to === "none") return 0;
    const shareOf = (whole: number, cohort: number): number => Math.ceil((whole - cohort) / this.#cohorts);
    const cohorts = Array.from({ length: this.#cohorts }, (_, cohort) => cohort);
    return receivers
      .map((count) =>
        to === "all"
          ? count * changes
          : cohorts.reduce((sum, cohort) => sum + shareOf(count, cohort) * shareOf(changes, cohort), 0),
      )
      .reduce((sum, count) => sum + count, 0);
  }

  async #publish(name: string, load: ChangeLoad): Promise<void> {
    const { perSecond, changes, to } = load;
    const call = async (_channel: string, change: object): Promise<unknown> =>
      callPrivateApi(this.#deployment, "POST", "/v1/publish", change);
    const send = load.publish ?? call;
    const cohorts = to === undefined ? this.#cohorts : 1;
    const items = Array.from({ length: changes }, (_, index) => {
      const turn = Math.floor(index / cohorts);
      const prefix = to === undefined ? this.prefixOf(index) : `load:${to}:`;
      const key = `${prefix}${name}-${turn % this.#channels}`;
      return { key, n: 1 + Math.floor(turn / this.#channels) };
    });
    const body = ({ key, n }: { key: string; n: number }): object => {
      const data: HookBody = { group: name, key, tenant: "", n, at: nowMs() };
      return { channel: key, event: "moved", data };
    };
    if (perSecond === Infinity) {
      for (let at = 0; at < items.length; at += batchSize) {
        const batch = items.slice(at, at + batchSize).map(body);
        await callPrivateApi(this.#deployment, "POST", "/v1/publish/batch", batch);
      }
      return;
    }
    /** By channel: its changes are published one after the other. */
    const last = new Map<string, Promise<unknown>>();
    const from = performance.now();
    for (const [index, item] of items.entries()) {
      while (((performance.now() - from) / 1_000) * perSecond < index) await pause(publishEveryMs);
      const due = body(item);
      const publish = async (): Promise<unknown> => send(item.key, due);
      last.set(item.key, (last.get(item.key) ?? Promise.resolve()).then(publish));
    }
    await Promise.all(last.values());
  }

  async #call(method: string, path: string, body: object): Promise<unknown> {
    return callPrivateApi({ ...this.#deployment, privateApiToken: this.#token }, method, path, body);
  }
}
