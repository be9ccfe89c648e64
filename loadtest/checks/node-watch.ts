/** Samples the gateways' own metrics several times a second: sessions, accepted connections, deliveries. */
import { setTimeout as pause } from "node:timers/promises";
import { metricValue, readMetrics } from "./metrics.ts";

export interface NodeReading {
  readonly sessions: number;
  readonly accepted: number;
  readonly deliveries: number;
}

/** One sample of every node. */
export interface NodeSample {
  /** Unix ms, the middle of the sample. */
  readonly at: number;
  /** By seat; undefined where the node does not answer. */
  readonly nodes: readonly (NodeReading | undefined)[];
  /** Connections that all nodes together accepted since the watch began. */
  readonly acceptedInTotal: number;
}

const sampleEveryMs = 250;
const answerWithinMs = 2_000;

export class NodeWatch {
  readonly samples: NodeSample[] = [];
  readonly #adminUrls: readonly string[];
  readonly #last: number[];
  #total = 0;
  #stopped = false;
  #sampling: Promise<void> | undefined;

  constructor(adminUrls: readonly string[]) {
    this.#adminUrls = adminUrls;
    this.#last = adminUrls.map(() => 0);
  }

  start(): void {
    this.#stopped = false;
    this.#sampling = this.#run();
  }

  /** Until the next start: a sample costs each node a few ms of CPU. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#sampling;
  }

  /**
   * The highest rate of accepted connections over any window of at least one second.
   *
   * @param sinceMs Unix ms
   */
  peakPerSecond(sinceMs = 0): number {
    let peak = 0;
    let end = 0;
    for (const [start, from] of this.samples.entries()) {
      if (from.at < sinceMs) continue;
      end = Math.max(end, start);
      while (end < this.samples.length && (this.samples[end]?.at ?? 0) - from.at < 1_000) end++;
      const until = this.samples[end];
      if (!until) break;
      peak = Math.max(peak, ((until.acceptedInTotal - from.acceptedInTotal) * 1_000) / (until.at - from.at));
    }
    return peak;
  }

  /** Takes one sample. @returns the readings of the nodes that answered. */
  async sample(): Promise<NodeReading[]> {
    const startedAt = Date.now();
    const nodes = await Promise.all(this.#adminUrls.map(async (url) => read(url)));
    for (const [seat, reading] of nodes.entries()) {
      if (!reading) continue;
      // A restarted node counts from 0.
      const before = reading.accepted < (this.#last[seat] ?? 0) ? 0 : (this.#last[seat] ?? 0);
      this.#total += reading.accepted - before;
      this.#last[seat] = reading.accepted;
    }
    this.samples.push({ at: (startedAt + Date.now()) / 2, nodes, acceptedInTotal: this.#total });
    return nodes.flatMap((node) => node ?? []);
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const startedAt = Date.now();
      await this.sample();
      await pause(Math.max(0, sampleEveryMs - (Date.now() - startedAt)));
    }
  }
}

async function read(adminUrl: string): Promise<NodeReading | undefined> {
  const page = await readMetrics(adminUrl, answerWithinMs).catch(() => undefined);
  if (page === undefined) return undefined;
  return {
    sessions: metricValue(page, "sessions"),
    accepted: metricValue(page, 'connects_total{outcome="accepted"}'),
    deliveries: metricValue(page, "deliveries_total"),
  };
}
