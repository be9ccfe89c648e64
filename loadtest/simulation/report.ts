/** The text of a report. */
import type { Summary } from "./summary.ts";

export interface RunResult {
  readonly name: string;
  readonly title: string;
  readonly summary: Summary;
}

const columns: readonly (readonly [title: string, of: (summary: Summary) => string])[] = [
  ["away", ({ mostAway }) => count(mostAway)],
  ["50 %", ({ backSeconds }) => seconds(backSeconds.half)],
  ["95 %", ({ backSeconds }) => seconds(backSeconds.most)],
  ["100 %", ({ backSeconds }) => seconds(backSeconds.all)],
  ["dials/s", ({ peakDialsPerSecond }) => count(peakDialsPerSecond)],
  ["admitted/s", ({ peakAdmittedPerSecond }) => count(peakAdmittedPerSecond)],
  ["auth/s", ({ peakAuthCallsPerSecond }) => count(peakAuthCallsPerSecond)],
  ["auth calls", ({ authCalls }) => count(authCalls)],
  ["cold", ({ coldAdmissions }) => count(coldAdmissions)],
  ["fallen", ({ fallen }) => count(fallen)],
  ["delay", ({ worstDelayMs }) => `${count(worstDelayMs)} ms`],
];

/** @returns the rows of a table; the first is its head. */
export function summaryTable(results: readonly RunResult[]): string[][] {
  const head = ["", ...columns.map(([title]) => title)];
  return [head, ...results.map(({ title, summary }) => [title, ...columns.map(([, of]) => of(summary))])];
}

export function plainTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  "),
    )
    .join("\n");
}

export const legend = `away: clients without a session at the worst moment; 50/95/100 %: from the event until so many of them stayed back;
dials/s, admitted/s, auth/s: the busiest second; auth calls: calls of the connect hook; cold: admissions of clients without a
resume token; fallen: established sessions that overload ended; delay: the longest wait for a node's event loop`;

function seconds(value: number | undefined): string {
  return value === undefined ? "not back" : `${value} s`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en-GB");
}
