/**
 * Reads one shard under its lease, page by page. A page is stored before its first row is published, and its end after the last one is
 * stored. A reader that continues after a crash publishes the rest of the page under the same marks: what is there already is not
 * published again, however long that took.
 */
import type { ShardLease, SqlShardStore } from "../../shared/sql-sources/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { reasonOf } from "../../shared/runtime/reason-of.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import { ColumnMissing, type Database, type Row, RowsLost, SourceRefused } from "./contract.ts";
import type { openDatabase } from "./open-database.ts";
import { type BegunPage, pageNumber, parseProgress, type Progress, refuseAnotherDatabase } from "./progress.ts";
import { mappedColumns, mappingOf } from "./row-mapping.ts";
import type { RowPublisher } from "./row-publisher.ts";
import { parseShardStatus, type ShardStatus } from "./shard-status.ts";
import type { Shard } from "./shards.ts";
import { LeaseEnded } from "../leases/lease-ended.ts";
import { Waiting } from "../leases/waiting.ts";

/** Pause after a read without rows: doubles from the first to the last of these. */
const minIdleMs = 20;
const maxIdleMs = 250;
/** The same where the database says that rows were written. */
const maxNotifiedIdleMs = 2_000;
/** A cursor that moves on without rows is stored this often: an older one finds the same rows. */
const storeIdleMs = 10_000;
const minRetryMs = 250;
const maxRetryMs = 10_000;
/** Until the operator has changed something. */
const refusedRetryMs = 30_000;

const maxMessageLength = 500;

export interface ShardReaderOptions {
  shard: Shard;
  /** Undefined where the variable is not set. */
  url: string | undefined;
  /** Undefined where it may end before what is begun now has ended. */
  lease: () => ShardLease | undefined;
  /** The store says that the lease has ended. */
  onLeaseEnded: () => void;
  store: Pick<SqlShardStore, "read" | "save">;
  /** Above every number that a reader in this process got under the same lease. */
  nextPage: () => number;
  publisher: Pick<RowPublisher, "publish">;
  open: typeof openDatabase;
  logger: Logger;
}

export class ShardReader {
  readonly #options: ShardReaderOptions;
  readonly #logger: Logger;
  readonly #waiting = new Waiting();
  #failures = 0;
  #idleMs = minIdleMs;
  /** The next read follows a notice of the database. */
  #isNoticed = false;
  /** Undefined: no read has ended yet, so rows that are written now may be before the first one. */
  #state: ShardStatus["state"] | undefined;
  #lastError: ShardStatus["lastError"];
  /** By `performance.now()`: everything that was visible then is published. Of the reader before this one, once the store is read. */
  #caughtUpAt = performance.now();
  #isLagContinued = false;
  #isCaughtUp = false;
  /** By `performance.now()`: the last read has found everything that was visible then. Undefined where it may not. */
  #allFoundAt: number | undefined;
  #storedAt = performance.now();
  #database: Database | undefined;
  /** While a connection is opened. */
  #abandonOpening: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(options: ShardReaderOptions) {
    this.#options = options;
    this.#logger = options.logger.child({ shard: options.shard.name });
  }

  get item(): Shard {
    return this.#options.shard;
  }

  /** Undefined until the first read has ended, or failed. */
  get status(): ShardStatus | undefined {
    if (this.#state === undefined) return undefined;
    const lagMs = this.#isCaughtUp ? 0 : Math.round(performance.now() - this.#caughtUpAt);
    return { state: this.#state, lagMs, at: Date.now(), ...(this.#lastError && { lastError: this.#lastError }) };
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Does not wait for a database that does not answer. */
  async stop(): Promise<void> {
    this.#waiting.stop();
    this.#abandonOpening?.();
    this.#close();
    await this.#running;
  }

  #close(): void {
    const database = this.#database;
    this.#database = undefined;
    database?.close();
  }

  async #run(): Promise<void> {
    while (!this.#waiting.isStopped) {
      try {
        await this.#session();
      } catch (error) {
        if (this.#waiting.isStopped) return;
        if (error instanceof LeaseEnded) {
          this.#options.onLeaseEnded();
          return;
        }
        this.#failed(error);
      } finally {
        this.#close();
      }
      const retryMs = Math.min(maxRetryMs, minRetryMs * 2 ** Math.min(this.#failures, 10));
      await this.#waiting.wait(jittered(this.#state === "refused" ? refusedRetryMs : retryMs));
    }
  }

  /** Of one connection to the database. */
  async #session(): Promise<void> {
    const { shard, url } = this.#options;
    if (url === undefined || url === "") {
      throw new SourceRefused(`the environment variable ${shard.variable} of the private API is not set`);
    }
    const stored = await this.#read();
    if (this.#waiting.isStopped) return;
    const { database, known } = await this.#openFor(url, stored);
    if (!database) return;
    this.#database = database;
    database.onNotice(() => {
      if (this.#database === database) this.#waiting.wake();
    });
    let progress = await this.#begin(database, known, { isStored: known === stored });
    while (!this.#waiting.isStopped) {
      try {
        progress = await this.#step(database, progress);
        this.#succeeded();
      } catch (error) {
        if (error instanceof RowsLost) await this.#saveLoss(error, database);
        if (!(error instanceof TidegateError)) throw error;
        // The message store is away: what it has stored is read again, on the same connection.
        this.#failed(error);
        await this.#waiting.wait(jittered(minRetryMs));
        progress = (await this.#readUntilReached()) ?? progress;
      }
    }
  }

  /**
   * With the columns of a page that was begun, too. Where one of them is gone, the present rule continues the page: its rows have the same
   * marks.
   * @returns without a database where the reader is stopped meanwhile
   */
  async #openFor(
    url: string,
    stored: Progress | undefined,
  ): Promise<{ database: Database | undefined; known: Progress | undefined }> {
    const { rule } = this.#options.shard;
    const begun = stored?.begun;
    const columns = mappedColumns(rule);
    if (!begun) return { database: await this.#open(url, columns), known: stored };
    try {
      const all = new Set([...columns, ...mappedColumns(begun.mapping)]);
      return { database: await this.#open(url, [...all]), known: stored };
    } catch (error) {
      if (!(error instanceof ColumnMissing)) throw error;
      const database = await this.#open(url, columns);
      return { database, known: { ...stored, begun: { ...begun, mapping: mappingOf(rule) } } };
    }
  }

  /** Undefined where the reader is stopped meanwhile. */
  async #open(url: string, columns: readonly string[]): Promise<Database | undefined> {
    const { rule, source } = this.#options.shard;
    const warn = (finding: string): void => this.#logger.warn(finding);
    const opening = this.#options.open(rule, { url, columns, name: `tidegate ${source}`, warn });
    const { promise: abandoned, resolve } = Promise.withResolvers<undefined>();
    this.#abandonOpening = () => resolve(undefined);
    const database = await Promise.race([opening, abandoned]);
    this.#abandonOpening = undefined;
    if (database && !this.#waiting.isStopped) return database;
    opening.then(
      (late) => late.close(),
      () => undefined,
    );
    return undefined;
  }

  async #read(): Promise<Progress | undefined> {
    const { progress, status } = await this.#options.store.read(this.#options.shard.name);
    if (!this.#isLagContinued) this.#continueLag(status);
    return progress === undefined ? undefined : parseProgress(progress);
  }

  /** Or a process that restarts often would never report a long one. */
  #continueLag(stored: string | undefined): void {
    this.#isLagContinued = true;
    const status = stored === undefined ? undefined : parseShardStatus(stored);
    if (status) this.#caughtUpAt -= status.lagMs + Math.max(0, Date.now() - status.at);
  }

  async #readUntilReached(): Promise<Progress | undefined> {
    while (!this.#waiting.isStopped) {
      try {
        return await this.#read();
      } catch (error) {
        if (!(error instanceof TidegateError)) throw error;
        await this.#waiting.wait(jittered(minRetryMs));
      }
    }
    return undefined;
  }

  /** @throws SourceRefused where the cursor is of no use in this database */
  async #begin(
    database: Database,
    known: Progress | undefined,
    { isStored }: { isStored: boolean },
  ): Promise<Progress> {
    const { rule } = this.#options.shard;
    const { identity, timeline } = database;
    if (!known) {
      const cursor = await database.begin(rule.start ?? "end");
      return this.#save({ identity, timeline, cursor, published: 0, skipped: 0 });
    }
    refuseAnotherDatabase(known, database, rule);
    // What another database had lost is of no more concern.
    const { lost: _lost, ...others } = known;
    const progress = { ...others, identity, timeline };
    // A new mapping is stored before it is used. What an earlier build stored takes the present form at once: a failover may follow.
    return isStored && known.identity === identity ? progress : this.#save(progress);
  }

  /** A later reader is refused, too: by then the database may have given more ids than were read, and would pass. */
  async #saveLoss({ message }: RowsLost, { timeline }: Database): Promise<void> {
    // Rows may have been read under another timeline: back there, the reader continues.
    const stored = await this.#read();
    if (stored) await this.#save({ ...stored, lost: { timeline, message } });
  }

  async #step(database: Database, progress: Progress): Promise<Progress> {
    if (progress.begun) return this.#finish(database, progress, progress.begun);
    this.#isCaughtUp = false;
    const isDueToNotice = this.#waiting.takeNotice() || this.#isNoticed;
    const readAt = performance.now();
    const found = await database.readNew(progress.cursor);
    this.#allFoundAt = found.isPart ? undefined : readAt;
    if (found.page === undefined) return this.#idle({ ...progress, cursor: found.next }, this.#allFoundAt);
    const mapping = mappingOf(this.#options.shard.rule);
    const number = pageNumber(this.#lease().fence, this.#options.nextPage());
    const begun = { number, page: found.page, next: found.next, after: "", mapping };
    const stored = await this.#save({ ...progress, begun });
    // A busy process may learn of rows by its clock, while the notice waits in the socket: it comes before the answer then.
    const isNoticed = isDueToNotice || this.#waiting.hasNotice;
    this.#idleMs = isNoticed ? maxNotifiedIdleMs : minIdleMs;
    const finished = await this.#finish(database, stored, begun, found.rows);
    // What is written after a read that follows a notice has a notice of its own: no read in vain.
    return isNoticed && found.rows ? this.#idle(finished, readAt) : finished;
  }

  /** @param rows the whole page, where it is known already */
  async #finish(database: Database, progress: Progress, begun: BegunPage, rows?: readonly Row[]): Promise<Progress> {
    const { name: shard, source } = this.#options.shard;
    const read = rows ? { rows, isLast: true } : await database.readPage(begun.page, begun.after);
    // The last check before rows are published; what a pause still lets through is a repeat by its marks.
    this.#lease();
    const { number: pageNumber, mapping, next } = begun;
    const counts = await this.#options.publisher.publish({ source, shard, pageNumber, mapping, rows: read.rows });
    const { begun: _begun, ...others } = progress;
    // Rows that keep coming are no lag.
    if (read.isLast) this.#caughtUpAt = this.#allFoundAt ?? this.#caughtUpAt;
    const after = read.rows.at(-1)?.id ?? begun.after;
    return this.#save({
      ...others,
      published: progress.published + counts.published,
      skipped: progress.skipped + counts.skipped,
      ...(read.isLast ? { cursor: next } : { begun: { ...begun, after } }),
    });
  }

  /** @param caughtUpAt everything that was visible then is published. Undefined: rows that are visible may be held back */
  async #idle(progress: Progress, caughtUpAt: number | undefined): Promise<Progress> {
    this.#isCaughtUp = caughtUpAt !== undefined;
    this.#caughtUpAt = caughtUpAt ?? this.#caughtUpAt;
    const isDue = performance.now() - this.#storedAt > storeIdleMs;
    const stored = isDue ? await this.#save(progress) : progress;
    this.#isNoticed = await this.#waiting.wait(this.#idleMs);
    const longest = this.#options.shard.rule.notify === undefined ? maxIdleMs : maxNotifiedIdleMs;
    this.#idleMs = Math.min(longest, this.#idleMs * 2);
    return stored;
  }

  /** @throws LeaseEnded */
  #lease(): ShardLease {
    const lease = this.#options.lease();
    if (!lease) throw new LeaseEnded();
    return lease;
  }

  /** @throws LeaseEnded; TidegateError where the store is out of reach */
  async #save(progress: Progress): Promise<Progress> {
    const isSaved = await this.#options.store.save(this.#lease(), { progress: JSON.stringify(progress) });
    if (!isSaved) throw new LeaseEnded();
    this.#storedAt = performance.now();
    return progress;
  }

  #succeeded(): void {
    if (this.#state !== undefined && this.#state !== "live") this.#logger.info("the SQL source is read again");
    this.#state = "live";
    this.#failures = 0;
  }

  #failed(error: unknown): void {
    // Without the error itself: a driver may put the URL, or a row, into it.
    const message = excerpt(reasonOf(error), maxMessageLength);
    const state = error instanceof SourceRefused ? "refused" : "failing";
    if (state !== this.#state || message !== this.#lastError?.message) {
      this.#logger.warn(
        { reason: message },
        state === "refused" ? "the SQL source cannot be read" : "reading the SQL source failed",
      );
    }
    this.#state = state;
    this.#isCaughtUp = false;
    this.#isNoticed = false;
    this.#lastError = { at: Date.now(), message };
    this.#failures++;
  }
}
