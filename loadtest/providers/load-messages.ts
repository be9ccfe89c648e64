/** What a scenario and its process of webhook senders tell each other. */
import type { HistogramJson } from "../checks/histogram.ts";

/** Webhooks of one kind. */
export interface HookGroup {
  readonly name: string;
  /** Path and query. */
  readonly target: string;
  readonly connections: number;
  /** Undefined: each connection sends the next webhook as soon as it has the answer. */
  readonly perSecond?: number;
  /** Each belongs to one connection, so that its webhooks are sent one after the other. */
  readonly keys: number;
  readonly tenant: string;
}

export interface HookLoadOptions {
  readonly port: number;
  readonly secret: string;
  readonly bodyBytes: number;
  readonly groups: readonly HookGroup[];
}

export type HookOrder =
  | { order: "begin"; options: HookLoadOptions }
  /** Sends nothing new until `resume`. */
  | { order: "pause" }
  | { order: "resume" }
  /** Lets what is under way be answered, and reports. */
  | { order: "end" };

export interface GroupFigures {
  readonly accepted: number;
  /** By status; 0: no answer. */
  readonly refused: Readonly<Record<number, number>>;
  /** From when a webhook was due to its answer, ms; 2xx only. */
  readonly answerMs: HistogramJson;
}

export type HookMessage =
  { kind: "progress"; accepted: number } | { kind: "ended"; groups: Readonly<Record<string, GroupFigures>> };

/** The body of each webhook, besides its filler. */
export interface HookBody {
  readonly group: string;
  readonly key: string;
  readonly tenant: string;
  /** From 1, within the key. */
  readonly n: number;
  /** When it was due, Unix ms with fractions. */
  readonly at: number;
}

/** Finer than `Date.now()`, and the same in all processes of a machine. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
