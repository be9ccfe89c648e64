/** Resource usage and limits of this process, from the runtime and the operating system. */
import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";

/** Rates since the last reading, and present levels. */
export interface ProcessUsage {
  elapsedMs: number;
  /** Busy part of the event loop's time: 0 to 1. */
  eventLoop: number;
  /** Busy cores, all threads together. */
  cores: number;
  /** Delay of the event loop's timers. */
  delayP99Ms: number;
  rssBytes: number;
  heapBytes: number;
}

/** Limits of this process. */
export interface ProcessLimits {
  cores: number;
  memoryBytes: number;
  heapBytes: number;
}

/** One timer per 20 ms costs next to nothing. */
const delayResolutionMs = 20;

/** Measures usage since the last reading. Owns a timer until stopped. */
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
      // The histogram holds the time from one firing to the next.
      delayP99Ms: this.#delay.count > 0 ? Math.max(0, this.#delay.percentile(99) / 1e6 - delayResolutionMs) : 0,
      rssBytes: this.#readRss(),
      heapBytes: getHeapStatistics().used_heap_size,
    };
    this.#delay.reset();
    [this.#loop, this.#cpu, this.#readAt] = [loop, cpu, now];
    return usage;
  }

  /** Keeps the last value where the process cannot open the file that holds it. */
  #readRss(): number {
    try {
      this.#rssBytes = process.memoryUsage.rss();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    }
    return this.#rssBytes;
  }
}

/** Limits of the container, or else of the machine. */
export function processLimits(): ProcessLimits {
  const machine = totalmem();
  // 0, or more than the machine has, without a limit.
  const container = process.constrainedMemory();
  return {
    cores: Math.min(availableParallelism(), cgroupCores()),
    memoryBytes: container > 0 ? Math.min(container, machine) : machine,
    heapBytes: getHeapStatistics().heap_size_limit,
  };
}

/** The container's CPU quota (cgroup v2, else v1); Infinity without one. */
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
