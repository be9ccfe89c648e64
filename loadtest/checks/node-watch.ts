/** What the nodes' own metrics say, several times a second: connections, and how many were let in. */
import { setTimeout as pause } from "node:timers/promises";

export interface NodeReading {
  readonly sessions: number;
  readonly accepted: number;
  readonly deliveries: number;
}

/** What one look at all nodes showed. */
export interface Look {
  /** Unix ms, in the middle of the look. */
  readonly at: number;
  /** By seat; undefined where the node does not answer. */
  readonly nodes: readonly (NodeReading | undefined)[];
  /** Let in since the watch began, by all nodes together, whatever became of them. */
  readonly acceptedInTotal: number;
}

const lookEveryMs = 250;
const answerWithinMs = 2_000;

export class NodeWatch {
  readonly looks: Look[] = [];
  readonly #adminUrls: readonly string[];
  readonly #last: number[];
  #total = 0;
  #over = false;
  #looking: Promise<void> | undefined;

  constructor(adminUrls: readonly string[]) {
    this.#adminUrls = adminUrls;
    this.#last = adminUrls.map(() => 0);
  }

  start(): void {
    this.#over = false;
    this.#looking = this.#goOn();
  }

  /** Until the next start: a look costs the nodes a few ms each. */
  async stop(): Promise<void> {
    this.#over = true;
    await this.#looking;
  }

  /**
   * The most connections that were let in within a second, by the looks that are at least so far apart; what they
   * counted is divided by what lay between them.
   */
  peakPerSecond(sinceMs = 0): number {
    let peak = 0;
    let end = 0;
    for (const [start, from] of this.looks.entries()) {
      if (from.at < sinceMs) continue;
      end = Math.max(end, start);
      while (end < this.looks.length && (this.looks[end]?.at ?? 0) - from.at < 1_000) end++;
      const until = this.looks[end];
      if (!until) break;
      peak = Math.max(peak, ((until.acceptedInTotal - from.acceptedInTotal) * 1_000) / (until.at - from.at));
    }
    return peak;
  }

  /** Looks once. @returns what those said that answered. */
  async look(): Promise<NodeReading[]> {
    const startedAt = Date.now();
    const nodes = await Promise.all(this.#adminUrls.map(async (url) => read(url)));
    for (const [seat, reading] of nodes.entries()) {
      if (!reading) continue;
      // A node that was started again counts from 0.
      const before = reading.accepted < (this.#last[seat] ?? 0) ? 0 : (this.#last[seat] ?? 0);
      this.#total += reading.accepted - before;
      this.#last[seat] = reading.accepted;
    }
    this.looks.push({ at: (startedAt + Date.now()) / 2, nodes, acceptedInTotal: this.#total });
    return nodes.flatMap((node) => node ?? []);
  }

  async #goOn(): Promise<void> {
    while (!this.#over) {
      const startedAt = Date.now();
      await this.look();
      await pause(Math.max(0, lookEveryMs - (Date.now() - startedAt)));
    }
  }
}

async function read(adminUrl: string): Promise<NodeReading | undefined> {
  const text = await fetch(`${adminUrl}/metrics`, { signal: AbortSignal.timeout(answerWithinMs) })
    .then(async (answer) => answer.text())
    .catch(() => undefined);
  if (text === undefined) return undefined;
  return {
    sessions: metric(text, "tidegate_sessions"),
    accepted: metric(text, 'tidegate_connects_total{outcome="accepted"}'),
    deliveries: metric(text, "tidegate_deliveries_total"),
  };
}

function metric(text: string, name: string): number {
  const line = text.split("\n").find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? 0);
}
