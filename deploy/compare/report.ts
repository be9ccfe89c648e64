/** The report of a comparison, for people. */
import { excerpt } from "../../shared/runtime/excerpt.ts";
import type { Gap } from "./comparison.ts";
import { type Difference, differenceKinds, type DifferenceKind, type Findings } from "./findings.ts";
import { type Bucket, histogramText } from "./latency-histogram.ts";

/** Longer than a channel. */
const maxNameLength = 256;

const meanings: Readonly<Record<DifferenceKind, string>> = {
  missing: "the reference has it, the ledger does not",
  extra: "the ledger has it, the reference does not",
  reordered: "the reference has it after a later change of its channel",
  duplicated: "the reference has it again",
  changed: "both have it, with another event or other data",
};

export function reportText(
  findings: Findings,
  shown: {
    gaps: readonly Gap[];
    differences: readonly Difference[];
    buckets: readonly Bucket[];
    names: readonly [ledger: string, reference: string];
  },
): string {
  const { counts } = findings;
  const [ledger, reference] = shown.names;
  const lines = [
    `${ledger}: ${counts.ledger} changes.  ${reference}: ${counts.reference} changes.  ${counts.same} are the same.`,
    "",
  ];
  for (const kind of differenceKinds) {
    lines.push(`${kind.padEnd(10)}  ${String(counts[kind]).padStart(9)}  ${meanings[kind]}`);
  }
  for (const { from, to } of shown.gaps) {
    lines.push(`The ledger no longer has ${timeText(from)} to ${timeText(to)}.`);
  }
  if (counts.unknown > 0)
    lines.push(`${counts.unknown} changes of the reference are from that time: nothing is said of them.`);
  if (shown.differences.length > 0)
    lines.push("", "The first differences:", "", ...shown.differences.map(differenceText));
  const summary = findings.latencySummary();
  if (summary) {
    const { count, min, p50, p90, p99, max } = summary;
    const figures = `min ${ms(min)}, P50 ${ms(p50)}, P90 ${ms(p90)}, P99 ${ms(p99)}, max ${ms(max)}`;
    lines.push("", `From the publication to the reference, ${count} changes: ${figures}`, histogramText(shown.buckets));
  }
  return `${lines.join("\n")}\n`;
}

/** The reference was written by others: its texts are quoted, so that a terminal obeys none of them. */
function differenceText({ kind, ...of }: Difference): string {
  const where = [
    of.channel === undefined ? undefined : excerpt(of.channel, maxNameLength),
    of.offset === undefined ? undefined : `offset ${of.offset}`,
    of.event === undefined ? undefined : excerpt(of.event, maxNameLength),
    of.id === undefined ? undefined : `id ${excerpt(of.id, maxNameLength)}`,
    of.line === undefined ? undefined : `line ${of.line}`,
    of.at === undefined ? undefined : timeText(of.at),
  ];
  const lines = [`${kind}: ${where.filter((part) => part !== undefined).join(", ")}`];
  if (of.before !== undefined) lines.push(`    before     ${of.before}`);
  if (of.ledger !== undefined) lines.push(`  > ledger     ${of.ledger}`);
  if (of.reference !== undefined) lines.push(`  > reference  ${of.reference}`);
  if (of.after !== undefined) lines.push(`    after      ${of.after}`);
  return `${lines.join("\n")}\n`;
}

function timeText(at: number): string {
  return new Date(at).toISOString();
}

function ms(value: number): string {
  return `${Math.round(value)} ms`;
}
