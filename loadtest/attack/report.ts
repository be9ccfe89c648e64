/** The results as a table for people. */
import { attackerNiceness } from "./processes.ts";
import { type AttackResult, marks, missedMarks, type Spread, timesQuiet } from "./result.ts";

interface Column {
  readonly title: string;
  readonly width: number;
  readonly text: (result: AttackResult) => string;
  readonly left?: boolean;
}

const mib = 1024 ** 2;

function ms(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function spreadText({ p50, p99, max }: Spread): string {
  return [p50, p99, max].map((value) => ms(value).padStart(6)).join("");
}

function memory({ rssBytes: { before, peak, after } }: AttackResult["programs"]["gateway"]): string {
  const grown = (bytes: number): string =>
    `${bytes >= before ? "+" : "-"}${Math.abs((bytes - before) / mib).toFixed(0)}`;
  return `${(before / mib).toFixed(0)} ${grown(peak)} ${grown(after)}`;
}

function percent(share: number): string {
  return (share * 100).toFixed(0);
}

const columns: readonly Column[] = [
  { title: "attack", width: 27, left: true, text: ({ name }) => name },
  { title: "needs", width: 13, left: true, text: ({ needs }) => needs },
  { title: "conn", width: 5, text: ({ connections }) => String(connections) },
  { title: "sent/s", width: 9, text: ({ attacker }) => attacker.sentPerSecond.toFixed(0) },
  { title: "MiB/s", width: 6, text: ({ attacker }) => (attacker.bytesPerSecond / mib).toFixed(1) },
  { title: "calls quiet p50 p99 max", width: 24, text: ({ quiet }) => spreadText(quiet.call) },
  { title: "attacked p50 p99 max", width: 22, text: ({ attacked }) => spreadText(attacked.call) },
  { title: "×", width: 6, text: (result) => timesQuiet(result).toFixed(1) },
  {
    title: "health gw/api",
    width: 14,
    text: ({ attacked }) => `${ms(attacked["gateway health"].max)}/${ms(attacked["API health"].max)}`,
  },
  {
    title: "connect p99 (failed)",
    width: 21,
    text: ({ attacked: { connect } }) => `${ms(connect.p99)} (${connect.failed}/${connect.count})`,
  },
  { title: "gateway MiB peak after", width: 23, text: ({ programs }) => memory(programs.gateway) },
  { title: "API MiB peak after", width: 19, text: ({ programs }) => memory(programs["private-api"]) },
  {
    title: "CPU % gw/api",
    width: 13,
    text: ({ programs }) =>
      `${percent(programs.gateway.cpu.attacked)}/${percent(programs["private-api"].cpu.attacked)}`,
  },
  {
    title: "waited %",
    width: 8,
    text: ({ programs }) =>
      `${percent(programs.gateway.waited.attacked)}/${percent(programs["private-api"].waited.attacked)}`,
  },
  { title: " ", width: 2, text: () => "" },
  { title: "verdict", width: 0, left: true, text: (result) => verdict(result) },
];

export function verdict(result: AttackResult): string {
  const missed = missedMarks(result);
  return missed.length === 0 ? "ok" : missed.join(" ");
}

function line(cells: readonly string[]): string {
  return cells
    .map((cell, i) => (columns[i]?.left ? cell.padEnd(columns[i].width) : cell.padStart(columns[i]?.width ?? 0)))
    .join(" ")
    .trimEnd();
}

export const heading = line(columns.map(({ title }) => title));

export function resultLine(result: AttackResult): string {
  return line(columns.map(({ text }) => text(result)));
}

export function reportText(results: readonly AttackResult[]): string {
  const failed = results.filter((result) => missedMarks(result).length > 0);
  const late = results.reduce((most, { witnessLateMs }) => Math.max(most, witnessLateMs), 0);
  return [
    heading,
    ...results.map(resultLine),
    "",
    `Times in ms. The attacker is one process at niceness ${attackerNiceness}, so that honest clients wait for the programs and not for the`,
    `scheduler; the row "control" is the same load without a target. The measuring process was at most ${ms(late)} ms late.`,
    `"waited": share of the time that a runnable main thread waited for a core, which is the effect of the machine.`,
    `Marks: every program alive; health checks within ${marks.healthMs} ms; afterwards memory within ${marks.grownBytes / mib} MiB of its start;`,
    `and, where the attacker needs nothing, the p99 of honest calls at most ${marks.timesQuiet} times that of the quiet time before.`,
    "",
    failed.length === 0 ? "PASS" : `FAIL: ${failed.length} of ${results.length} attacks`,
    "",
  ].join("\n");
}

export function listText(attacks: readonly { name: string; needs: string; does: string }[]): string {
  return attacks.map(({ name, needs, does }) => `${name.padEnd(28)} ${needs.padEnd(13)} ${does}\n`).join("");
}
