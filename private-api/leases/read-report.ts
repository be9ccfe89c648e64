/** What readers under leases have reported, for the answers of every private API. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { SqlShardStore, StoredShard } from "../../shared/sql-sources/contract.ts";

/** A reader reports every few seconds once a read has ended. Clocks of processes may differ. */
const currentMs = 30_000;

interface Report<State> {
  readonly state: State;
  readonly lagMs: number;
  /** When it was reported, in Unix ms. */
  readonly at: number;
  readonly lastError?: { readonly at: number; readonly message: string };
}

interface KnownReport<State> extends Pick<Report<State>, "lastError"> {
  readonly state: State | "unread";
  readonly lag: { readonly ms: number };
  /** As it is stored. */
  readonly progress?: string;
}

/** Undefined for what a newer version wrote. */
type Parse<State> = (status: string) => Report<State> | undefined;

/** Where its cell is away this is the error of the report, so that it hides no other one. */
export async function readReport<State extends string>(
  name: string,
  { store, parse }: { store: Pick<SqlShardStore, "read">; parse: Parse<State> },
): Promise<KnownReport<State>> {
  try {
    return reportOf(await store.read(name), parse);
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    return { state: "unread", lag: { ms: 0 }, lastError: { at: Date.now(), message: error.message } };
  }
}

function reportOf<State extends string>(
  { status, progress, isRead }: StoredShard,
  parse: Parse<State>,
): KnownReport<State> {
  const known = progress !== undefined && { progress };
  const report = status === undefined ? undefined : parse(status);
  if (!report) return { state: "unread", lag: { ms: 0 }, ...known };
  const ageMs = Math.max(0, Date.now() - report.at);
  // An older one is of an earlier lease.
  const isCurrent = isRead && ageMs <= currentMs;
  const isLive = isCurrent && report.state === "live";
  return {
    state: isCurrent ? report.state : "unread",
    lag: { ms: report.lagMs + (isLive ? 0 : ageMs) },
    ...(report.lastError && { lastError: report.lastError }),
    ...known,
  };
}
