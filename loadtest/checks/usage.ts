/** Samples CPU time and memory of processes, from Linux's /proc, and of the whole machine. */
import { readdirSync, readFileSync } from "node:fs";
import { cpus, freemem, totalmem } from "node:os";

export interface Usage {
  /** Unix ms. */
  readonly atMs: number;
  /** User and system time up to now, all threads. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

export interface ThreadUsage extends Usage {
  /** Time up to now that the runnable thread waited for a core. Absent where the kernel does not report it. */
  readonly waitedMs?: number;
}

/** The unit of /proc: USER_HZ is 100 on every Linux that Node runs on. */
const msPerTick = 10;
const sampleEveryMs = 250;

/** @returns undefined where the process has ended or there is no /proc. */
export function processUsage(pid: number): Usage | undefined {
  return readUsage(`/proc/${pid}`);
}

/** User and system time up to now, of all threads that still run. A process that has ended counts as 0. */
export function cpuMsByRole<Role extends string>(
  processes: readonly { readonly role: Role; readonly pid: number }[],
): Map<Role, number> {
  const byRole = new Map<Role, number>();
  for (const { role, pid } of processes) {
    byRole.set(role, (byRole.get(role) ?? 0) + cpuMsOf(pid));
  }
  return byRole;
}

/** In steps of a fraction of a ms where the kernel reports it, else of 10 ms. */
function cpuMsOf(pid: number): number {
  const folder = `/proc/${pid}/task`;
  try {
    const nanos = readdirSync(folder).map(
      (task) => readFileSync(`${folder}/${task}/schedstat`, "latin1").split(" ")[0],
    );
    return nanos.reduce((sum, spent) => sum + Number(spent), 0) / 1e6;
  } catch {
    return processUsage(pid)?.cpuMs ?? 0;
  }
}

/** CPU time of the event loop's thread alone; the memory is that of the whole process. */
export function mainThreadUsage(pid: number): ThreadUsage | undefined {
  const folder = `/proc/${pid}/task/${pid}`;
  const usage = readUsage(folder);
  const waitedMs = waitedOf(folder);
  return usage && { ...usage, ...(waitedMs !== undefined && { waitedMs }) };
}

function waitedOf(folder: string): number | undefined {
  try {
    return Number(readFileSync(`${folder}/schedstat`, "latin1").split(" ")[1]) / 1e6;
  } catch {
    return undefined;
  }
}

function readUsage(folder: string): Usage | undefined {
  try {
    const stat = readFileSync(`${folder}/stat`, "latin1");
    // The name in parentheses may contain anything; behind it, utime and stime are the 12th and 13th field.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const rssKib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`${folder}/status`, "latin1"))?.[1];
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

/** Use of all cores by all processes: shows whether other work disturbed a run. */
export function machineUsage(): Usage {
  const cpuMs = cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
  return { atMs: Date.now(), cpuMs, rssBytes: totalmem() - freemem() };
}

/** Takes samples from start() to stop(). */
export class UsageRecorder<Sample extends Usage = Usage> {
  readonly #read: () => Sample | undefined;
  readonly #samples: Sample[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(read: () => Sample | undefined) {
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
  at(moment: number): Sample | undefined {
    let closest: Sample | undefined;
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
