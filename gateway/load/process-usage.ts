/** What this process uses, as the runtime and the operating system tell it. */
import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";

/** Since the last reading, or now. */
export interface ProcessUsage {
  elapsedMs: number;
  /** Of the time the event loop was busy: 0 to 1. */
  eventLoop: number;
  /** Cores that were kept busy, all threads together. */
  cores: number;
  /** How late the event loop's timers were. */
  delayP99Ms: number;
  rssBytes: number;
  heapBytes: number;
}

/** What this process may use. */
export interface ProcessLimits {
  cores: number;
  memoryBytes: number;
  heapBytes: number;
}

/** A timer each 20 ms, which may fire late: its cost is not seen beside anything else. */
const delayResolutionMs = 20;

/** Reads the difference to the last reading. To be stopped: it measures by a timer of its own. */
export class ProcessMeter {
  readonly #delay = monitorEventLoopDelay({ resolution: delayResolutionMs });
  #loop = performance.eventLoopUtilization();
  #cpu = process.cpuUsage();
  #readAt = performance.now();
  #rssBytes = 0;

  start(): void {
    this.#delay.enable();
    this.read();
  }

  stop(): void {
    this.#delay.disable();
  }

  read(): ProcessUsage {
    const now = performance.now();
    const elapsedMs = Math.max(1, now - this.#readAt);
    const loop = performance.eventLoopUtilization();
    const cpu = process.cpuUsage();
    const usage: ProcessUsage = {
      elapsedMs,
      eventLoop: performance.eventLoopUtilization(loop, this.#loop).utilization,
      cores: (cpu.user + cpu.system - this.#cpu.user - this.#cpu.system) / 1_000 / elapsedMs,
      // What is measured is from one firing to the next.
      delayP99Ms: this.#delay.count > 0 ? Math.max(0, this.#delay.percentile(99) / 1e6 - delayResolutionMs) : 0,
      rssBytes: this.#readRss(),
      heapBytes: getHeapStatistics().used_heap_size,
    };
    this.#delay.reset();
    [this.#loop, this.#cpu, this.#readAt] = [loop, cpu, now];
    return usage;
  }

  /** The system tells it through a file: where no file can be opened, it is what it was. */
  #readRss(): number {
    try {
      this.#rssBytes = process.memoryUsage.rss();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    }
    return this.#rssBytes;
  }
}

/** Those of the container, where there is one; else of the machine. */
export function processLimits(): ProcessLimits {
  const machine = totalmem();
  // 0, or more than there is, where nothing is set.
  const container = process.constrainedMemory();
  return {
    cores: Math.min(availableParallelism(), cgroupCores()),
    memoryBytes: container > 0 ? Math.min(container, machine) : machine,
    heapBytes: getHeapStatistics().heap_size_limit,
  };
}

/** The CPU quota of a container (cgroup v2, else v1); Infinity where there is none. */
function cgroupCores(): number {
  const [quota, period] = (
    contentOf("/sys/fs/cgroup/cpu.max") ??
    `${contentOf("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") ?? ""} ${contentOf("/sys/fs/cgroup/cpu/cpu.cfs_period_us") ?? ""}`
  )
    .trim()
    .split(/\s+/)
    .map(Number);
  const cores = quota !== undefined && period !== undefined ? quota / period : Number.NaN;
  return cores > 0 ? cores : Infinity;
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
