/** The report of a run. */
import { type Histogram, histogramText } from "../checks/histogram.ts";
import type { Verdict } from "../checks/scenario-report.ts";
import { type Costly, limits } from "./cost.ts";
import type { MemoryGrowth } from "./leftovers.ts";
import { inputText, type Violation, violationLines } from "./violations.ts";

export interface Tally {
  inputs: number;
  frames: number;
  requests: number;
  /** Connections that did not open, or whose client was not welcome. */
  refused: number;
  ms: number;
}

export interface FuzzReport {
  readonly seed: string;
  readonly seconds: number;
  readonly pass: boolean;
  readonly tallies: Readonly<Record<string, Tally>>;
  readonly honest: Readonly<Record<"calls" | "publications" | "health", Histogram>>;
  /** Times that a process waited long for a core: the honest client's figures of those slices are left out. */
  readonly starved: number;
  readonly honestFailures: Readonly<Record<string, number>>;
  readonly memory: readonly MemoryGrowth[];
  /** Process, boundary and count of contained exceptions. */
  readonly contained: readonly string[];
  readonly leftovers: readonly string[];
  readonly strayWebhooks: readonly string[];
  /** By process, target and standing, the costliest first. */
  readonly worst: readonly Costly[];
  readonly measured: number;
  readonly warnings: Readonly<Record<string, number>>;
  readonly violations: readonly Violation[];
  readonly endedInOrder: boolean;
  readonly verdicts: readonly Verdict[];
}

export function reportText(report: FuzzReport): string {
  const { tallies, honest, memory, worst, violations, verdicts, warnings } = report;
  const lines = [`fuzz: seed ${report.seed}, ${report.seconds.toFixed(0)} s`, ""];
  for (const [name, tally] of Object.entries(tallies)) lines.push(`  ${name.padEnd(16)} ${tallyText(tally)}`);
  const starved =
    report.starved > 0 ? `, without the slices in which the machine starved a process ${report.starved} times` : "";
  lines.push("", `  an honest client meanwhile${starved}`);
  for (const [name, histogram] of Object.entries(honest))
    lines.push(`    ${name.padEnd(14)} ${histogramText(histogram)}`);
  lines.push("", "  memory, MiB: heap after a collection, RSS");
  for (const { arena, process, heapBytes, rssBytes } of memory) {
    lines.push(`    ${`${process} (${arena})`.padEnd(22)} ${mib(heapBytes)}, ${mib(rssBytes)}`);
  }
  lines.push(
    "",
    `  the costliest of ${report.measured} single inputs: ms of CPU in the longest turn of the event loop`,
  );
  for (const { process, target, standing, turnMs, input } of worst) {
    const over = turnMs > limits[standing] ? " OVER" : "";
    const kind = `${process}, ${target}, ${standing}`;
    lines.push(`    ${kind.padEnd(48)} ${turnMs.toFixed(1)}${over}`, `      ${inputText([input])}`);
  }
  if (Object.keys(warnings).length > 0) lines.push("", "  warnings in the logs");
  for (const [message, count] of Object.entries(warnings)) lines.push(`    ${count} ${message}`);
  for (const violation of violations) lines.push("", ...violationLines(violation));
  lines.push("", ...verdicts.map(({ title, pass, value }) => `  ${pass ? "PASS" : "FAIL"}  ${title} (${value})`));
  return [...lines, "", report.pass ? "PASS" : "FAIL", ""].join("\n");
}

export function tallyText({ inputs, frames, requests, refused, ms }: Tally): string {
  const counted = (count: number, what: string): string[] =>
    count > 0 ? [`${count} ${what} (${Math.round((count * 1_000) / Math.max(1, ms))}/s)`] : [];
  const more = refused > 0 ? [`${refused} refused`] : [];
  return [`${inputs} inputs`, ...counted(frames, "frames"), ...counted(requests, "requests"), ...more].join(", ");
}

function mib([before, after]: readonly [number, number]): string {
  return `${(before / 1024 ** 2).toFixed(1)} → ${(after / 1024 ** 2).toFixed(1)}`;
}
