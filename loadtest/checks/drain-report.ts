import type { DrainReport } from "../../shared/nodes/contract.ts";

/** @returns one line on the last drain that a node logged. Its log level must be `info`. */
export function drainReport(output: string): string {
  const line = output.split("\n").findLast((candidate) => candidate.includes('"msg":"drained"'));
  if (line === undefined) return "no drain report";
  const { sessions, moved, closed, forced, lost, left } = JSON.parse(line) as DrainReport;
  return `${sessions} sessions: ${moved} moved, ${closed} closed, ${forced} forced, ${lost} lost, ${left} left`;
}
