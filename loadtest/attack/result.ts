/** The effect of an attack on honest clients and programs, and the marks it missed. */
import type { Attack, Need, Tally } from "./attack.ts";
import type { Program } from "./deployment.ts";
import { type Sample, type SampleKind, sampleKinds } from "./orders.ts";

/** Durations in ms; a failure counts as 5 s. */
export interface Spread {
  readonly count: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export type Spreads = Readonly<Record<SampleKind, Spread>>;

export interface ProgramFigures {
  readonly rssBytes: { readonly before: number; readonly peak: number; readonly after: number };
  /** Share of one core, before and under attack. */
  readonly cpu: { readonly quiet: number; readonly attacked: number };
  /** Share of the time that its runnable main thread waited for a core: delay by the machine, not by the program. */
  readonly waited: { readonly quiet: number; readonly attacked: number };
}

export interface AttackResult {
  readonly name: string;
  readonly does: string;
  readonly needs: Need;
  readonly connections: number;
  readonly seconds: number;
  readonly attacker: Tally & { readonly sentPerSecond: number; readonly bytesPerSecond: number };
  readonly quiet: Spreads;
  readonly attacked: Spreads;
  readonly after: Spreads;
  readonly programs: Readonly<Record<Program, ProgramFigures>>;
  /** Programs that ended by themselves. */
  readonly died: readonly Program[];
  /** From the end of the attack until everything was answered again; undefined: not in time. */
  readonly recoveredAfterMs: number | undefined;
  /** The longest delay of the measuring process: the uncertainty of the figures. */
  readonly witnessLateMs: number;
}

/** The duration that a failure counts as. */
const failedMs = 5_000;

export const marks = { timesQuiet: 3, healthMs: 200, grownBytes: 64 * 1024 ** 2 } as const;

export function spreadsOf(samples: readonly Sample[]): Spreads {
  return Object.fromEntries(
    sampleKinds.map((kind) => [kind, spread(samples.filter((sample) => sample.kind === kind))]),
  ) as Record<SampleKind, Spread>;
}

function spread(samples: readonly Sample[]): Spread {
  const sorted = Float64Array.from(samples, ({ failed, tookMs }) => (failed ? failedMs : tookMs)).sort();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return {
    count: samples.length,
    failed: samples.filter(({ failed }) => failed).length,
    p50: at(0.5),
    p99: at(0.99),
    max: at(1),
  };
}

/** The p99 of honest calls under attack, as a multiple of the quiet p99. */
export function timesQuiet({ quiet, attacked }: Pick<AttackResult, "quiet" | "attacked">): number {
  return attacked.call.p99 / quiet.call.p99;
}

/**
 * The missed marks. The delay of calls is a mark only for attackers without a token: a client with a token may use its share,
 * which other limits bound.
 */
export function missedMarks(result: AttackResult): string[] {
  const { died, recoveredAfterMs, attacked, programs } = result;
  if (died.length > 0) return died.map((program) => `DIED:${program}`);
  const missed: string[] = [];
  if (recoveredAfterMs === undefined) missed.push("stuck");
  if (result.needs === "nothing" && !(timesQuiet(result) <= marks.timesQuiet)) missed.push("delay");
  if (attacked["gateway health"].max > marks.healthMs) missed.push("health:gateway");
  if (attacked["API health"].max > marks.healthMs) missed.push("health:private-api");
  for (const [program, { rssBytes }] of Object.entries(programs)) {
    if (rssBytes.after - rssBytes.before > marks.grownBytes) missed.push(`memory:${program}`);
  }
  return missed;
}

export function connectionsOf(attack: Attack, asked: number): number {
  return asked * (attack.connectionsEach ?? 1);
}
