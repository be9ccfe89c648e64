/** The figures of a storm: what earlier sessions, health checks and the gateway's process showed before, in and after it. */
import type { ProbedSecond } from "./health-probe.ts";
import { percentile } from "./percentile.ts";
import type { UsageRecorder } from "./usage.ts";

export interface Latency {
  /** Unix ms. */
  readonly at: number;
  readonly ms: number;
}

/** Unix ms of the borders between the quiet time, the storm and the reconnects. */
export interface Times {
  readonly quietFrom: number;
  readonly stormFrom: number;
  readonly againFrom: number;
  readonly until: number;
}

export function latencyFigures(latencies: readonly Latency[], times: Times): Record<string, number> {
  const { quietFrom, stormFrom, againFrom, until } = times;
  const p99 = (from: number, to: number): number => {
    const within = latencies.filter(({ at }) => at >= from && at < to);
    return Math.round(
      percentile(
        within.map(({ ms }) => ms),
        0.99,
      ),
    );
  };
  return {
    "publish → receive p99, ms: quiet": p99(quietFrom, stormFrom),
    "publish → receive p99, ms: all at once": p99(stormFrom, againFrom),
    "publish → receive p99, ms: reconnecting": p99(againFrom, until),
  };
}

export function usageFigures(
  usage: UsageRecorder,
  { quietFrom, stormFrom, againFrom, until }: Times,
): Record<string, string> {
  const mib = (bytes = 0): number => Math.round(bytes / 1024 ** 2);
  const cores = (from: number, to: number): string => {
    const [first, last] = [usage.at(from), usage.at(to)];
    return first && last ? ((last.cpuMs - first.cpuMs) / (last.atMs - first.atMs)).toFixed(2) : "?";
  };
  return {
    "RSS, MiB: before, peak": `${mib(usage.at(stormFrom)?.rssBytes)}, ${mib(usage.peakBytes(stormFrom, until))}`,
    "CPU of the gateway, cores: quiet": cores(quietFrom, stormFrom),
    "CPU of the gateway, cores: reconnecting": cores(againFrom, until),
  };
}

/** The output of the health probe. */
export class HealthFigures {
  readonly #seconds: readonly ProbedSecond[];

  constructor(output: string) {
    const lines = output.split("\n").filter(Boolean);
    this.#seconds = lines.map((line) => JSON.parse(line) as ProbedSecond);
  }

  sum(field: "checks" | "slow" | "failed", from: number, to: number): number {
    return this.#within(from, to).reduce((sum, second) => sum + second[field], 0);
  }

  slowestMs(from: number, to: number): number {
    return Math.max(0, ...this.#within(from, to).map(({ slowestMs }) => slowestMs));
  }

  figures({ quietFrom, stormFrom, againFrom, until }: Times): Record<string, string | number> {
    const slowest = (from: number, to: number): number => Math.round(this.slowestMs(from, to));
    return {
      "health checks in the storm": this.sum("checks", stormFrom, until),
      "… slower than 100 ms": this.sum("slow", stormFrom, until),
      "… slowest, ms (quiet)": `${slowest(stormFrom, until)} (${slowest(quietFrom, stormFrom - 1_000)})`,
      "… slowest: all at once, reconnecting": `${slowest(stormFrom, againFrom)}, ${slowest(againFrom + 1_000, until)}`,
    };
  }

  #within(from: number, to: number): ProbedSecond[] {
    return this.#seconds.filter(({ at }) => at > from && at <= to + 1_000);
  }
}
