/** Makes endpoints live after what another system sent, and shadows again. */
import { readBothSides } from "../compare/both-sides.ts";
import { Comparison } from "../compare/comparison.ts";
import type { Pointers } from "../compare/reference-lines.ts";
import { type Endpoint, type EndpointApi, endpointPath } from "../endpoint-api.ts";

export interface Stopped extends Endpoint {
  /** A cursor: what is before it was sent. */
  readonly after: string;
  /** Unix ms: everything that was published before was sent. */
  readonly sentUntil: number;
}

/** What another system sent to one endpoint. */
export interface Reference {
  readonly file: string;
  /** Of captured requests; undefined: all. */
  readonly path: string | undefined;
  readonly pointers: Pointers;
  /** It may have nothing that the ledger has: then all of the ledger is sent. */
  readonly mayBeEmpty: boolean;
  /** Changes that the ledger lacks are not published later. */
  readonly mayBeMissing: boolean;
}

/**
 * The first delivery of each channel is the one after the last that the reference has; a channel that it lacks gets all of the ledger.
 * @throws Error also where it is not certain what the other system has sent
 */
export async function goLiveAfterReference(api: EndpointApi, id: string, reference: Reference): Promise<Endpoint> {
  const { file, path, pointers } = reference;
  const comparison = new Comparison({ idPointer: pointers.id });
  try {
    await readBothSides(comparison, {
      ...{ api, endpoint: id, reference: file, path, pointers },
    });
    assertCertain(comparison, reference);
    const after = comparison.lastChanges();
    return await api.ask("POST", endpointPath(id, "/go-live"), { after, others: "ledger" });
  } finally {
    comparison.close();
  }
}

function assertCertain({ gaps, db }: Comparison, { file, mayBeEmpty, mayBeMissing }: Reference): void {
  if (gaps.length > 0) {
    const until = Math.max(...gaps.map(({ to }) => to));
    throw new Error(
      `the ledger has a gap until ${new Date(until).toISOString()}: move the shadow past it with replay --from time:${until + 1}`,
    );
  }
  // Equal lines without an id are paired by their number, which may begin before the ledger does.
  if (db.prepare("SELECT 1 FROM reference WHERE id IS NULL LIMIT 1").get()) {
    throw new Error(`${file} has lines without an id: name it with --id-at`);
  }
  if (!mayBeEmpty && !db.prepare("SELECT 1 FROM pairs LIMIT 1").get()) {
    throw new Error(
      `${file} has no change of the ledger, all of which would be sent: correct --path or --id-at, or confirm it with --nothing-sent`,
    );
  }
  // Lines before the first pair are older than the ledger.
  const missing = db
    .prepare(
      `SELECT count(*) AS count, min(pos) AS first FROM reference
       WHERE pos > (SELECT min(r) FROM pairs) AND pos NOT IN (SELECT r FROM pairs) AND pos NOT IN (SELECT r FROM duplicates)`,
    )
    .get();
  if (!mayBeMissing && Number(missing?.["count"]) > 0) {
    throw new Error(
      `${file}:${String(missing?.["first"])}: the ledger lacks this change and ${Number(missing?.["count"]) - 1} more, which would be sent again once they are published: ` +
        "repeat the command in a moment, or confirm with --ignore-missing that they never are",
    );
  }
}

export async function goLiveAfter(api: EndpointApi, id: string, cursor: string): Promise<Endpoint> {
  return api.ask("POST", endpointPath(id, "/go-live"), { after: cursor });
}

export async function toShadow(api: EndpointApi, id: string): Promise<Stopped> {
  return api.ask("POST", endpointPath(id, "/shadow"));
}

/** Those that go live where this percentage is to be live: stable, so that a greater percentage keeps those of a smaller one. */
export async function shadowsWithin(api: EndpointApi, percent: number): Promise<readonly Endpoint[]> {
  return api.list({ state: "shadow", percent });
}

/** Those that go back where no more than this percentage is to be live. */
export async function liveBeyond(api: EndpointApi, percent: number): Promise<readonly Endpoint[]> {
  const live = await api.list({ state: "live" });
  return live.filter(({ point }) => point >= percent);
}
