/** The ways to lose a row of a SQL source, and the verdict on one shard. Pure. */
import { inversions, type Workload } from "../../test/support/sql-workload.ts";

export const violationKinds = {
  missing: "a committed row was never published",
  doubled: "a row was published twice",
  unknown: "a row was published that the table does not have",
  inverted: "a row came before one that was committed before it began, on the same channel",
} as const;

export interface Violation {
  readonly kind: keyof typeof violationKinds;
  readonly detail: string;
}

export interface ShardVerdict {
  readonly shard: string;
  readonly rows: number;
  /** Rows that the naive reader beside it has lost. */
  readonly lostByNaive: number;
  readonly violations: readonly Violation[];
}

/** Violations of a kind that are kept with their text. */
const maxDetails = 10;

export interface ShardResult {
  readonly shard: string;
  /** The n of the table's rows. */
  readonly committed: readonly number[];
  /** By channel, in order. */
  readonly published: ReadonlyMap<string, readonly number[]>;
  readonly written: Workload["written"];
  readonly lostByNaive: number;
}

export function judge({ shard, committed, published, written, lostByNaive }: ShardResult): ShardVerdict {
  const violations: Violation[] = [];
  const add = (kind: Violation["kind"], found: readonly string[]): void => {
    violations.push(...found.slice(0, maxDetails).map((detail) => ({ kind, detail: `${shard}: ${detail}` })));
  };
  const all = [...published.values()].flat();
  const seen = new Set(all);
  const known = new Set(committed);
  add("missing", committed.filter((n) => !seen.has(n)).map(String));
  add("unknown", [...seen].filter((n) => !known.has(n)).map(String));
  if (seen.size < all.length) add("doubled", [`${all.length - seen.size} rows`]);
  for (const [channel, inOrder] of published) {
    add(
      "inverted",
      inversions(inOrder, written).map(([one, other]) => `${one} before ${other} on ${channel}`),
    );
  }
  return { shard, rows: committed.length, lostByNaive, violations };
}
