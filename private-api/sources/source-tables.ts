/**
 * Reads single rows of the tables of SQL sources, for changes that have left the change log. Each call has a connection of its own, which
 * ends with it. A shard is asked for one call at a time, and is left alone for a while after a failure.
 */
import type { RowName } from "../../shared/channels/contract.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { reasonOf } from "../../shared/runtime/reason-of.ts";
import type { Environment } from "../../shared/runtime/settings.ts";
import type { SqlShardStore } from "../../shared/sql-sources/contract.ts";
import { rowKey, type TableRow, type TableRows } from "../changes/table-rows.ts";
import { type Row, SourceRefused } from "./contract.ts";
import type { openDatabase } from "./open-database.ts";
import { parseProgress, type Progress, refuseAnotherDatabase } from "./progress.ts";
import { mappedColumns, mapRow } from "./row-mapping.ts";
import { type Shard, shardsOf } from "./shards.ts";

/** A shard is asked again this long after a failure. */
const retryMs = 1_000;
const retryAfterMs = 5_000;
/** Of one shard, with the one under way. */
const maxCalls = 32;
/** Of a call, with its wait for those before it. */
const callMs = 30_000;
const maxMessageLength = 500;

interface Turns {
  calls: number;
  /** Ends with the last call. */
  last: Promise<unknown>;
}

export class SourceTables implements Service, TableRows {
  readonly #options: {
    rules: Pick<CurrentRules, "rules">;
    environment: Environment;
    store: Pick<SqlShardStore, "read">;
    open: typeof openDatabase;
    logger: Logger;
  };
  readonly #turns = new Map<string, Turns>();
  /** By shard: until when it is left alone, by `performance.now()`, and why. */
  readonly #failures = new Map<string, { until: number; message: string }>();
  readonly #stopping = new AbortController();

  constructor(options: {
    rules: Pick<CurrentRules, "rules">;
    environment: Environment;
    store: Pick<SqlShardStore, "read">;
    open: typeof openDatabase;
    logger: Logger;
  }) {
    this.#options = options;
  }

  async start(): Promise<void> {}

  /** Calls that are under way, and later ones, fail. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all([...this.#turns.values()].map(async ({ last }) => last));
  }

  /** Rows of shards that the rules no longer have are gone. */
  async read(rows: readonly RowName[]): Promise<ReadonlyMap<string, TableRow>> {
    const shards = shardsOf(this.#options.rules.rules);
    const found = new Map<string, TableRow>();
    await Promise.all(
      [...Map.groupBy(rows, ({ shard }) => shard)].map(async ([name, ofShard]) => {
        const shard = shards.get(name);
        if (!shard) return;
        const ids = [...new Set(ofShard.map(({ id }) => id))];
        for (const row of await this.#inTurn(name, async (signal) => this.#readShard(shard, ids, signal))) {
          const mapped = mapRow(shard.rule, row);
          if (mapped.kind === "skipped") continue;
          const { channel, event, data } = mapped;
          found.set(rowKey({ shard: name, id: row.id }), { channel, event, data: data.text });
        }
      }),
    );
    return found;
  }

  /** After the calls for the shard that began before. The signal ends with the time of the call, or of this process. */
  async #inTurn<Result>(shard: string, call: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    const turns = this.#turns.get(shard) ?? { calls: 0, last: Promise.resolve() };
    if (turns.calls === maxCalls) throw unavailable(shard, `${maxCalls} calls wait for it already`);
    this.#turns.set(shard, turns);
    turns.calls++;
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(callMs)]);
    const result = turns.last.then(async () => call(signal));
    turns.last = result
      .catch(() => undefined)
      .finally(() => {
        if (--turns.calls === 0) this.#turns.delete(shard);
      });
    return result;
  }

  async #readShard(shard: Shard, ids: readonly string[], signal: AbortSignal): Promise<readonly Row[]> {
    const failure = this.#failures.get(shard.name);
    if (failure && failure.until > performance.now()) throw unavailable(shard.name, failure.message);
    const { progress } = await this.#options.store.read(shard.name);
    try {
      const known = progress === undefined ? undefined : parseProgress(progress);
      const found = await this.#readTable(shard, { known, ids, signal });
      this.#failures.delete(shard.name);
      return found;
    } catch (error) {
      if (this.#stopping.signal.aborted) throw unavailable(shard.name, "the process stops");
      // Without the error itself: a driver may put the URL, or a row, into it.
      const message = excerpt(reasonOf(error), maxMessageLength);
      if (message !== failure?.message) {
        this.#options.logger.warn(
          { shard: shard.name, reason: message },
          "rows of a SQL source could not be read again",
        );
      }
      this.#failures.set(shard.name, { until: performance.now() + retryMs, message });
      throw unavailable(shard.name, message);
    }
  }

  async #readTable(
    { variable, source, rule }: Shard,
    { known, ids, signal }: { known: Progress | undefined; ids: readonly string[]; signal: AbortSignal },
  ): Promise<readonly Row[]> {
    const url = this.#options.environment[variable];
    if (url === undefined || url === "") {
      throw new SourceRefused(`the environment variable ${variable} of the private API is not set`);
    }
    const overdue = new Error(`the call took longer than ${callMs / 1_000} s`);
    if (signal.aborted) throw overdue;
    const { notify: _notify, ...quiet } = rule;
    const options = { url, columns: mappedColumns(rule), name: `tidegate ${source} again`, warn: () => undefined };
    const opening = this.#options.open(quiet, options);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(overdue);
    signal.addEventListener("abort", abort, { once: true });
    const reading = opening.then(async (database) => {
      if (known) refuseAnotherDatabase(known, database, rule);
      return database.readRows(ids);
    });
    try {
      return await Promise.race([reading, aborted]);
    } finally {
      signal.removeEventListener("abort", abort);
      // Also one that opens only now.
      opening.then(
        (database) => database.close(),
        () => undefined,
      );
    }
  }
}

function unavailable(shard: string, message: string): TidegateError {
  return new TidegateError("upstream_unavailable", `rows of ${shard} cannot be read again: ${message}`, {
    retryAfterMs,
  });
}
