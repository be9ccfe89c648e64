/** The report of the order checker. */
import type { KeyVerdict } from "./key-ledger.ts";
import { type ViolationKind, violationKinds } from "./violations.ts";

const figures = [
  ...(["emitted", "accepted", "requests", "repeats", "replayed", "staleFences", "deadLetters", "gone"] as const),
] as const;

export type OrderTotals = Readonly<Record<(typeof figures)[number], number>>;

export interface OrderReport {
  readonly pass: boolean;
  readonly seconds: number;
  readonly clients: number;
  readonly connects: number;
  /** Emits that were refused, or had no ack: each was repeated. */
  readonly emitFailures: number;
  /** By code. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Requests to the service that belong to no key of this run. */
  readonly unknownRequests: number;
  readonly totals: OrderTotals;
  /** By kind, every kind included. */
  readonly violations: Readonly<Record<ViolationKind, number>>;
  readonly keys: readonly KeyVerdict[];
}

/** Violations that are printed one by one. */
const maxPrinted = 20;

export function totalsOf(verdicts: readonly KeyVerdict[]): OrderTotals {
  const sum = (name: (typeof figures)[number]): number => verdicts.reduce((total, verdict) => total + verdict[name], 0);
  return Object.fromEntries(figures.map((name) => [name, sum(name)])) as Record<(typeof figures)[number], number>;
}

export function violationsByKind(verdicts: readonly KeyVerdict[]): Record<ViolationKind, number> {
  const all = verdicts.flatMap(({ violations }) => violations);
  const kinds = Object.keys(violationKinds) as ViolationKind[];
  const counts = kinds.map((kind) => [kind, all.filter((violation) => violation.kind === kind).length]);
  return Object.fromEntries(counts) as Record<ViolationKind, number>;
}

/** What happened to the items, a line each. */
export function totalsText(totals: OrderTotals, keys: number): string[] {
  const { emitted, accepted, requests, repeats, replayed, staleFences, deadLetters, gone } = totals;
  return [
    `${accepted} of ${emitted} items of ${keys} keys acknowledged, ${gone} of them gone with declared losses`,
    `${requests} requests to the service: ${repeats} items again after it had taken them, ${replayed} behind later ones after a declared loss`,
    `${staleFences} requests with a stale fence, ${deadLetters} items were dead letters for a time`,
  ];
}

export function orderReportText(report: OrderReport): string {
  const { clients, connects, seconds, emitFailures, refusals, violations, keys, unknownRequests } = report;
  const lines = [
    `${clients} clients, ${connects} connections, ${seconds.toFixed(0)} s, ${emitFailures} emits repeated`,
    ...Object.entries(refusals).map(([code, count]) => `  ${count} ${code}`),
    ...totalsText(report.totals, keys.length),
    ...(unknownRequests > 0 ? [`${unknownRequests} requests belong to another run, and were answered 404`] : []),
    "",
  ];
  for (const [kind, what] of Object.entries(violationKinds)) {
    const count = violations[kind as ViolationKind];
    if (count > 0) lines.push(`  ${count} ${kind}: ${what}`);
  }
  const all = keys.flatMap((verdict) => verdict.violations);
  for (const { kind, key, detail } of all.slice(0, maxPrinted)) lines.push(`    ${kind} ${key} ${detail}`);
  if (all.length > maxPrinted) lines.push(`    … ${all.length - maxPrinted} more (--json has them)`);
  lines.push(report.pass ? "PASS: every item in order, none lost" : "FAIL", "");
  return lines.join("\n");
}
