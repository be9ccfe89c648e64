/** What the scenarios that are driven from Node have in common: readers, figures, verdicts, and how a run ends. */
import { availableParallelism } from "node:os";
import { SignJWT } from "jose";
import { readArguments, refuseArguments, toggle } from "../shared/runtime/command-line.ts";
import { RawClient } from "../test/support/raw-client.ts";
import { type Deployment, Fleet } from "./fleet.ts";

export interface Verdict {
  readonly title: string;
  readonly pass: boolean;
  readonly value: string | number;
}

/** For figures that are compared. */
export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

export interface ScenarioReport {
  readonly scenario: string;
  readonly parameters: Readonly<Record<string, number>>;
  /** By what a person calls it, unit included. */
  readonly figures: Readonly<Record<string, string | number>>;
  readonly tables?: readonly Table[];
  readonly verdicts: readonly Verdict[];
}

/** A parameter from the environment; every one is bounded, so that a run always ends. One that is not valid ends the program. */
export function parameter(name: string, fallback: number, min: number, max: number): number {
  const value = Number(process.env[name] ?? fallback);
  if (value >= min && value <= max) return value;
  return refuseArguments(`${name} must be a number from ${min} to ${max}, not "${process.env[name]}"`);
}

/** Progress; stdout is for the report alone. */
export function say(text: string): void {
  if (text !== "") process.stderr.write(`${text}\n`);
}

/** Runs a scenario against a fleet of its own, prints its report, and ends fleet and process: 0 where every verdict passed. */
export async function runScenario(run: (fleet: Fleet) => Promise<ScenarioReport>): Promise<void> {
  const flags = readArguments({ "--json": toggle() });
  const fleet = new Fleet();
  const end = async (exitCode: number): Promise<void> => {
    await fleet.stop();
    process.exit(exitCode);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void end(1));
  try {
    const report = await run(fleet);
    const died = { title: "every server ran to the end", pass: fleet.died.length === 0, value: fleet.died.length };
    const verdicts = [...report.verdicts, died];
    const pass = verdicts.every((verdict) => verdict.pass);
    const whole = { ...report, cores: availableParallelism(), verdicts, pass };
    process.stdout.write(flags["--json"] ? `${JSON.stringify(whole, undefined, 2)}\n` : reportText(whole));
    if (!pass) say(fleet.output());
    await end(pass ? 0 : 1);
  } catch (error) {
    say(fleet.output());
    say((error as Error).stack ?? String(error));
    await end(1);
  }
}

function reportText(report: ScenarioReport & { cores: number; pass: boolean }): string {
  const parameters = Object.entries(report.parameters).map(([name, value]) => `${name}=${value}`);
  const width = Math.max(0, ...Object.keys(report.figures).map((name) => name.length));
  return [
    `${report.scenario}: ${parameters.join(" ")}, ${report.cores} cores`,
    "",
    ...Object.entries(report.figures).map(([name, value]) => `  ${name.padEnd(width)}  ${value}`),
    "",
    ...(report.tables ?? []).flatMap((table) => [...tableLines(table), ""]),
    ...report.verdicts.map(({ title, pass, value }) => `  ${pass ? "PASS" : "FAIL"}  ${title} (${value})`),
    "",
    report.pass ? "PASS" : "FAIL",
    "",
  ].join("\n");
}

/** Under each other, numbers to the right. */
function tableLines({ columns, rows }: Table): string[] {
  const widths = columns.map((column, i) => Math.max(column.length, ...rows.map((row) => String(row[i] ?? "").length)));
  const cell = (value: string | number, i: number): string =>
    typeof value === "number" ? String(value).padStart(widths[i] ?? 0) : value.padEnd(widths[i] ?? 0);
  return [columns, ...rows].map((row) => `  ${row.map(cell).join("  ")}`.trimEnd());
}

export async function putRules(
  { privateApi, privateApiToken }: Pick<Deployment, "privateApi" | "privateApiToken">,
  rules: object,
): Promise<void> {
  const answer = await fetch(`${privateApi}/v1/rules`, {
    method: "PUT",
    headers: { authorization: `Bearer ${privateApiToken}`, "content-type": "application/json" },
    body: JSON.stringify(rules),
  });
  if (!answer.ok) throw new Error(`the rules were refused: ${await answer.text()}`);
}

/** A client that is welcome on node `node` (from 0). */
export async function connectReader({ gatewayUrls, jwtSecret }: Deployment, node: number): Promise<RawClient> {
  const token = await new SignJWT({ channels: ["load:*"] })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject("load")
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(jwtSecret));
  return RawClient.connect(new URL(gatewayUrls[node % gatewayUrls.length]?.replace("ws", "http") ?? ""), token);
}

/** @param share of 1, such as 0.99. */
export function percentile(values: number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** What a client has seen of a channel: whether each publication followed on the one before. */
export class Chain {
  readonly offsets = new Set<number>();
  last: number;
  /** A publication that did not follow on the last. */
  breaks = 0;
  epoch: string;

  constructor({ epoch, offset }: { epoch: string; offset: number }) {
    this.epoch = epoch;
    this.last = offset;
  }

  take({ offset, prev = offset - 1 }: { offset: number; prev?: number | undefined }): void {
    if (prev !== this.last) this.breaks++;
    this.last = offset;
    this.offsets.add(offset);
  }
}
