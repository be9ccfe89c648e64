/** Trials of webhooks from several groups: how they were answered and served, and how large Redis became. */
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../../test/support/eventually.ts";
import { HookLoad } from "../providers/hook-load.ts";
import type { GroupFigures, HookGroup } from "../providers/load-messages.ts";
import type { HookSink, ServiceFigures } from "./hook-sink.ts";
import type { RedisUseReader } from "./redis-use.ts";
import { say } from "./scenario.ts";

const watchEveryMs = 500;
const servedWithinMs = 120_000;
/** Each trial has keys of its own. */
let trials = 0;

export interface Trial {
  readonly answered: Readonly<Record<string, GroupFigures>>;
  readonly served: ServiceFigures;
  /** When Redis used most, in the first half of the load and in the second. */
  readonly redis: { readonly before: RedisSize; readonly after: RedisSize };
}

interface RedisSize {
  readonly bytes: number;
  readonly keys: number;
}

export interface HookTrialsOptions {
  /** Of the gateway. */
  readonly port: number;
  readonly secret: string;
  readonly bodyBytes: number;
  readonly sink: HookSink;
  readonly reader: RedisUseReader;
  /** Of a trial that names none. */
  readonly seconds: number;
  /** How long the service works on a webhook. */
  readonly workMs: number;
}

export class HookTrials {
  readonly #options: HookTrialsOptions;

  constructor(options: HookTrialsOptions) {
    this.#options = options;
  }

  /** @param options.awaitsService false: what the service has not served is not waited for */
  async run(
    title: string,
    groups: readonly HookGroup[],
    { seconds = this.#options.seconds, awaitsService = true } = {},
  ): Promise<Trial> {
    const { port, secret, bodyBytes, sink, reader, workMs } = this.#options;
    say(title);
    await sink.figures();
    const own = groups.map((group) => ({ ...group, name: `${group.name}-${++trials}` }));
    const receivedBefore = sink.received;
    const load = new HookLoad({ port, secret, bodyBytes, groups: own });
    const redis = { before: { bytes: 0, keys: 0 }, after: { bytes: 0, keys: 0 } };
    const halfway = performance.now() + (seconds * 1_000) / 2;
    for (const until = performance.now() + seconds * 1_000; performance.now() < until; await pause(watchEveryMs)) {
      const phase = performance.now() < halfway ? "before" : "after";
      const size = { bytes: await reader.usedMemory(), keys: await reader.client.dbsize() };
      if (size.bytes > redis[phase].bytes) redis[phase] = size;
    }
    const figures = await load.end();
    const accepted = Object.values(figures).reduce((sum, group) => sum + group.accepted, 0);
    if (awaitsService) {
      await eventually(() => sink.received - receivedBefore >= accepted, servedWithinMs);
      await pause(workMs * 2);
    }
    return { answered: unnumbered(figures), served: await this.#servedOf(), redis };
  }

  async #servedOf(): Promise<ServiceFigures> {
    const figures = await this.#options.sink.figures();
    const { waitMs, servedMs, mostAtOnce } = figures;
    const own = { waitMs: unnumbered(waitMs), servedMs: unnumbered(servedMs), mostAtOnce: unnumbered(mostAtOnce) };
    return { ...figures, ...own };
  }
}

function unnumbered<Value>(byGroup: Readonly<Record<string, Value>>): Record<string, Value> {
  return Object.fromEntries(Object.entries(byGroup).map(([name, value]) => [name.replace(/-\d+$/, ""), value]));
}
