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

const deliveredWithinMs = 120_000;
const publishEveryMs = 5;

/** `dead`: nothing listens there. `silent`: it takes the request and does not answer. */
export type EndpointKind = "live" | "slow" | "dead" | "silent";

export interface Phase {
  readonly changes: number;
  readonly deliveries: number;
  readonly perSecond: number;
  /** From before the publish until the endpoint has the request. */
  readonly liveMs: Histogram;
  readonly slowMs: Histogram;
  readonly apiCpuMs: number;
  readonly redis: RedisUse;
}

export class EndpointBench {
  readonly #deployment: OwnDeployment;
  readonly #token: string;
  readonly #sink: HookSink;
  readonly #redis: RedisUseReader;
  readonly #channels: number;
  readonly #ids: Record<EndpointKind, string[]> = { live: [], slow: [], dead: [], silent: [] };

  /** @param options.token with the scope `endpoints` */
  constructor(options: { deployment: OwnDeployment; token: string; sink: HookSink; channels: number }) {
    this.#deployment = options.deployment;
    this.#token = options.token;
    this.#sink = options.sink;
    this.#channels = options.channels;
    this.#redis = new RedisUseReader(options.deployment.redisUrl);
  }

  stop(): void {
    this.#redis.stop();
  }

  /** Endpoints of all channels. */
  async create(kind: EndpointKind, count: number): Promise<void> {
    const origin = kind === "dead" ? "http://127.0.0.1:9" : await this.#sink.url();
    const first = this.#ids[kind].length;
    const created = await inBatches(
      Array.from({ length: count }, (_, n) => first + n),
      async (n) => {
        const endpoint = { url: `${origin}/${kind}/${n}`, channels: ["load:*"] };
        return this.#call("POST", "/v1/endpoints", endpoint) as Promise<{ id: string }>;
      },
    );
    this.#ids[kind].push(...created.map(({ id }) => id));
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
   * @param load.perSecond Infinity: all at once. @param receivers of each change; the endpoints that answer where it is left out
   */
  async measure(
    name: string,
    { perSecond, changes }: { perSecond: number; changes: number },
    receivers = this.#ids.live.length + this.#ids.slow.length,
  ): Promise<Phase> {
    await this.#sink.figures();
    const deliveries = changes * receivers;
    const receivedBefore = this.#sink.received;
    const before = { redis: await this.#redis.read(), apiMs: this.#apiMs() };
    const from = performance.now();
    await this.#publish(name, perSecond, changes);
    await eventually(() => this.#sink.received - receivedBefore >= deliveries, deliveredWithinMs);
    const ms = performance.now() - from;
    const apiCpuMs = this.#apiMs() - before.apiMs;
    const redis = useSince(before.redis, await this.#redis.read());
    const { waitMs } = await this.#sink.figures();
    const of = (group: string): Histogram => {
      const histogram = new Histogram();
      const json = waitMs[group];
      if (json) histogram.merge(json);
      return histogram;
    };
    const times = { liveMs: of(name), slowMs: of(slowGroup(name)) };
    return { changes, deliveries, perSecond: (deliveries * 1_000) / ms, ...times, apiCpuMs, redis };
  }

  #apiMs(): number {
    return cpuMsByRole(this.#deployment.processes).get("private-api") ?? 0;
  }

  async #publish(group: string, perSecond: number, changes: number): Promise<void> {
    const items = Array.from({ length: changes }, (_, index) => {
      const key = `load:${group.replaceAll(/[^a-z]/g, "-")}-${index % this.#channels}`;
      return { key, n: 1 + Math.floor(index / this.#channels) };
    });
    const body = ({ key, n }: { key: string; n: number }): object => {
      const data: HookBody = { group, key, tenant: "", n, at: nowMs() };
      return { channel: key, event: "moved", data };
    };
    if (perSecond === Infinity) {
      await callPrivateApi(this.#deployment, "POST", "/v1/publish/batch", items.map(body));
      return;
    }
    /** By channel: its changes are published one after the other. */
    const last = new Map<string, Promise<unknown>>();
    const from = performance.now();
    for (const [index, item] of items.entries()) {
      while (((performance.now() - from) / 1_000) * perSecond < index) await pause(publishEveryMs);
      const publish = async (): Promise<unknown> => callPrivateApi(this.#deployment, "POST", "/v1/publish", body(item));
      last.set(item.key, (last.get(item.key) ?? Promise.resolve()).then(publish));
    }
    await Promise.all(last.values());
  }

  async #call(method: string, path: string, body: object): Promise<unknown> {
    return callPrivateApi({ ...this.#deployment, privateApiToken: this.#token }, method, path, body);
  }
}
