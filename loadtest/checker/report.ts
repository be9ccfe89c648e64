/** The report of the checker. */
import type { Verdict } from "./ledger.ts";
import { type Violation, type ViolationKind, violationKinds } from "./violations.ts";

export interface CheckerReport {
  readonly pass: boolean;
  readonly seconds: number;
  readonly clients: number;
  readonly connects: number;
  readonly publishFailures: number;
  /** By kind, every kind included. */
  readonly violations: Readonly<Record<ViolationKind, number>>;
  readonly channels: readonly Verdict[];
}

/** Violations that are printed one by one. */
const maxPrinted = 20;

export function countByKind(violations: readonly Violation[]): Record<ViolationKind, number> {
  const kinds = Object.keys(violationKinds) as ViolationKind[];
  const count = (wanted: ViolationKind): number => violations.filter(({ kind }) => kind === wanted).length;
  return Object.fromEntries(kinds.map((kind) => [kind, count(kind)])) as Record<ViolationKind, number>;
}

export function reportText(report: CheckerReport): string {
  const { channels, violations, clients, connects, seconds, publishFailures } = report;
  const lines = [
    `${clients} clients, ${connects} connections, ${seconds.toFixed(0)} s, ${publishFailures} failed tries to publish`,
    "",
    "  acknowledged    gone   delivered   signals   violations   channel",
    ...channels.map(({ channel, acknowledged, gone, deliveries, signals, violations: found }) => {
      const columns = [String(acknowledged).padStart(14), String(gone).padStart(7), String(deliveries).padStart(11)];
      return `${columns.join(" ")} ${String(signals).padStart(9)} ${String(found.length).padStart(12)}   ${channel}`;
    }),
    "",
  ];
  for (const [kind, what] of Object.entries(violationKinds)) {
    const count = violations[kind as ViolationKind];
    if (count > 0) lines.push(`  ${count} ${kind}: ${what}`);
  }
  const all = channels.flatMap((verdict) => verdict.violations);
  for (const { kind, channel, follower, detail } of all.slice(0, maxPrinted)) {
    lines.push(`    ${kind} ${channel} ${follower ?? ""} ${detail}`);
  }
  if (all.length > maxPrinted) lines.push(`    … ${all.length - maxPrinted} more (--json has them)`);
  lines.push(
    report.pass ? "PASS: nothing doubled, reordered, lost without a signal or signalled without need" : "FAIL",
    "",
  );
  return lines.join("\n");
}
