/** CPU time and memory over time: of processes, from Linux's /proc, and of the whole machine. */
import { readFileSync } from "node:fs";
import { cpus, freemem, totalmem } from "node:os";

export interface Usage {
  /** Unix ms. */
  readonly atMs: number;
  /** User and system time up to now, all threads. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** What /proc counts in: USER_HZ, 100 on every Linux that Node runs on. */
const msPerTick = 10;
const sampleEveryMs = 250;

/** Undefined when the process is gone, or where there is no /proc. */
export function processUsage(pid: number): Usage | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name, in parentheses, may hold anything; after it, utime and stime are the 12th and 13th.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const rssKib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
    if (rssKib === undefined) return undefined;
    return {
      atMs: Date.now(),
      cpuMs: (Number(fields[11]) + Number(fields[12])) * msPerTick,
      rssBytes: Number(rssKib) * 1024,
    };
  } catch {
    return undefined;
  }
}

/** All cores, whoever keeps them busy: shows whether something else disturbed a run. */
export function machineUsage(): Usage {
  const cpuMs = cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
  return { atMs: Date.now(), cpuMs, rssBytes: totalmem() - freemem() };
}

/** Takes samples until stopped. */
export class UsageRecorder {
  readonly #read: () => Usage | undefined;
  readonly #samples: Usage[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(read: () => Usage | undefined) {
    this.#read = read;
  }

  start(): void {
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), sampleEveryMs);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#sample();
  }

  /** The sample closest to a moment (Unix ms). */
  at(moment: number): Usage | undefined {
    let closest: Usage | undefined;
    for (const sample of this.#samples) {
      if (!closest || Math.abs(sample.atMs - moment) < Math.abs(closest.atMs - moment)) closest = sample;
    }
    return closest;
  }

  /** The most memory seen between two moments (Unix ms). */
  peakBytes(from: number, until: number): number {
    return this.#samples
      .filter(({ atMs }) => atMs >= from && atMs <= until)
      .reduce((most, { rssBytes }) => Math.max(most, rssBytes), 0);
  }

  #sample(): void {
    const usage = this.#read();
    if (usage) this.#samples.push(usage);
  }
}
