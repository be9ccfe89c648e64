/** Measures one edge under webhooks: the rate, the answers, and what each process pays for a webhook. */
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../../test/support/eventually.ts";
import { Histogram } from "../checks/histogram.ts";
import type { Usage } from "../checks/usage.ts";
import { HookLoad } from "../providers/hook-load.ts";
import type { GroupFigures } from "../providers/load-messages.ts";
import type { HookSink } from "./hook-sink.ts";
import type { Role } from "./server.ts";

const warmUpWebhooks = 20_000;
/** From the begin of a measurement until it counts. */
const settledMs = 1_000;
const deliveredWithinMs = 120_000;
const watchEveryMs = 10;

export type Consumer = Role | "nginx" | "senders" | "service";

/** One measurement. */
export interface Measured {
  readonly perSecond: number;
  /** For one webhook. */
  readonly cpuMicros: Readonly<Partial<Record<Consumer, number>>>;
  readonly answerMs: Histogram;
  readonly refused: number;
}

export interface HookBenchOptions {
  readonly port: number;
  /** Path of the source. */
  readonly target: string;
  readonly secret: string;
  readonly seconds: number;
  readonly connections: number;
  readonly keys: number;
  readonly bodyBytes: number;
  /** Of the processes whose CPU is shown. */
  readonly usages: () => Readonly<Partial<Record<Consumer, Usage | undefined>>>;
  /** Where webhooks are to be processed too: the senders pause while `maxAhead` of them wait. */
  readonly processing?: { readonly sink: HookSink; readonly maxAhead: number };
}

/** Each measurement has keys of its own. */
let measurements = 0;

export class HookBench {
  readonly #options: HookBenchOptions;

  constructor(options: HookBenchOptions) {
    this.#options = options;
  }

  /** Lets the compiler see enough of them. */
  async warmUp(): Promise<void> {
    const load = this.#begin();
    await eventually(() => load.accepted >= warmUpWebhooks, deliveredWithinMs);
    await load.end();
  }

  /** @param perSecond undefined: as fast as they are answered */
  async measure(perSecond?: number): Promise<Measured> {
    const { seconds, processing } = this.#options;
    const load = this.#begin(perSecond);
    const receivedBefore = processing?.sink.received ?? 0;
    const processed = (): number => (processing?.sink.received ?? 0) - receivedBefore;
    const count = (): number => (processing ? processed() : load.accepted);
    const watch = processing && setInterval(() => keepBehind(load, processed(), processing.maxAhead), watchEveryMs);
    await pause(settledMs);
    const before = this.#cpuMs(load);
    const [countBefore, startedAt] = [count(), performance.now()];
    await pause(seconds * 1_000);
    const after = this.#cpuMs(load);
    const [counted, ms] = [count() - countBefore, performance.now() - startedAt];
    clearInterval(watch);
    const [figures] = Object.values(await load.end()) as [GroupFigures];
    if (processing) await eventually(() => processed() >= figures.accepted, deliveredWithinMs);
    const answerMs = new Histogram();
    answerMs.merge(figures.answerMs);
    const cpuMicros = Object.fromEntries(
      Object.entries(after).map(([name, cpuMs]) => [name, ((cpuMs - (before[name] ?? 0)) * 1_000) / counted]),
    );
    const refused = Object.values(figures.refused).reduce((sum, number) => sum + number, 0);
    return { perSecond: (counted * 1_000) / ms, cpuMicros, answerMs, refused };
  }

  #begin(perSecond?: number): HookLoad {
    const { port, target, secret, connections, keys, bodyBytes } = this.#options;
    const rate = perSecond !== undefined && { perSecond };
    const group = { name: `g${++measurements}`, target, connections, keys, tenant: "t", ...rate };
    return new HookLoad({ port, secret, bodyBytes, groups: [group] });
  }

  #cpuMs(load: HookLoad): Record<string, number> {
    const usages = { ...this.#options.usages(), senders: load.usage };
    return Object.fromEntries(Object.entries(usages).map(([name, usage]) => [name, usage?.cpuMs ?? 0]));
  }
}

function keepBehind(load: HookLoad, processed: number, maxAhead: number): void {
  const waiting = load.accepted - processed;
  if (waiting > maxAhead) load.pause();
  else if (waiting < maxAhead / 2) load.resume();
}
