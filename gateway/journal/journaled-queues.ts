/** Stores items in the queues; while these are out of reach in the journal, and from there in the queues, all in one order. */
import { setTimeout as sleep } from "node:timers/promises";
import type { NewItem, QueueStore } from "../../shared/queues/contract.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { Counter } from "../../shared/runtime/metrics.ts";
import { allSettled, jittered, withDeadline } from "../../shared/runtime/timing.ts";
import type { Journal } from "./journal.ts";

/** One script call takes as many. */
const batchItems = 100;
/** Between two attempts to reach the queues, about. */
const defaultRetryMs = 500;
/** Of a stop: what it does not replay stays on the disk. */
const stopReplayMs = 1_500;

export interface JournaledQueuesOptions {
  journal: Journal;
  queues: QueueStore;
  /** Items: written, refused (no room, or the disk fails), replayed, or duplicate (the queue had it). */
  counter: Counter<"outcome">;
  /** Between two attempts to reach the queues; shorter than the default in tests. */
  retryMs?: number;
  errors: ContainedErrors;
  logger: Logger;
}

export interface Storing<Outcome> {
  /** Each with its `dedupeId`: it is not known which of them a failed attempt has stored. */
  readonly items: () => readonly NewItem[];
  /** Asks the queues for room. @returns what ends it without storing anything; undefined: there is room */
  readonly admit: () => Promise<Outcome | undefined>;
  /** Stores the items in the queues; settles once nothing of them is under way. */
  readonly enqueue: () => Promise<Outcome>;
}

interface FailedStore {
  /** Grows with each call of `store`. */
  readonly arrival: number;
  readonly write: () => void;
}

/**
 * `direct`: items go to the queues. Where one fails, later ones wait until all that are under way have settled, at most a few
 * seconds; those that failed are written in the order of their arrival. `journal`: items are written behind others, and the
 * replay works on the oldest. Once few are left, later items wait for the end of the replay, and go to the queues again.
 */
export class JournaledQueues implements Service {
  readonly #options: JournaledQueuesOptions;
  readonly #stopped = new AbortController();
  #mode: "direct" | "journal" = "direct";
  /** Items that arrive wait for it. */
  #gate: PromiseWithResolvers<void> | undefined;
  #arrivals = 0;
  #underWay = 0;
  #failed: FailedStore[] = [];
  #replaying: Promise<void> | undefined;

  constructor(options: JournaledQueuesOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#options.journal.bytes;
  }

  get items(): number {
    return this.#options.journal.items;
  }

  get oldestMs(): number {
    return this.#options.journal.oldestMs;
  }

  /** What an earlier process left goes first. */
  async start(): Promise<void> {
    const { journal, logger } = this.#options;
    await journal.start();
    const { items, bytes } = journal;
    if (items === 0) return;
    logger.info({ items, bytes }, "journal of an earlier process is replayed");
    this.#beginReplay();
  }

  /** Call once nothing is stored any more. */
  async stop(): Promise<void> {
    const { journal, logger } = this.#options;
    if (this.#replaying) await withDeadline(this.#replaying, stopReplayMs, () => undefined);
    this.#stopped.abort();
    await journal.stop();
    const { items, bytes, directory } = journal;
    if (items === 0) return;
    const message =
      "journal is not replayed: start a gateway with the same JOURNAL_DIR and GATEWAY_NODE to deliver its items";
    logger.warn({ items, bytes, directory }, message);
  }

  /**
   * Calls that are made one after the other keep the order of their items.
   * @returns what `admit` or `enqueue` does, or `journaled`: durable on this machine
   * @throws TidegateError `broker_unavailable` where the journal takes nothing either; whatever else these two throw
   */
  async store<Outcome>(storing: Storing<Outcome>): Promise<Outcome | "journaled"> {
    while (this.#gate) await this.#gate.promise;
    if (this.#mode === "journal") return this.#write(storing.items());
    const arrival = ++this.#arrivals;
    const written = Promise.withResolvers<"journaled">();
    this.#underWay++;
    try {
      return await this.#storeDirectly(storing);
    } catch (error) {
      if (!isOutOfReach(error)) throw error;
      this.#gate ??= Promise.withResolvers<void>();
      this.#failed.push({ arrival, write: () => written.resolve(this.#write(storing.items())) });
    } finally {
      if (--this.#underWay === 0 && this.#failed.length > 0) this.#beginJournal();
    }
    return written.promise;
  }

  async #storeDirectly<Outcome>({ admit, enqueue }: Storing<Outcome>): Promise<Outcome> {
    const ended = await admit();
    if (ended !== undefined) return ended;
    // Meanwhile an older call has failed: this one must not be stored before it.
    if (this.#gate) throw brokerUnavailable("the message store is out of reach");
    return enqueue();
  }

  async #write(items: readonly NewItem[]): Promise<"journaled"> {
    const { journal, counter } = this.#options;
    try {
      await journal.append(items);
      counter.inc({ outcome: "written" }, items.length);
      return "journaled";
    } catch (error) {
      counter.inc({ outcome: "refused" }, items.length);
      throw error;
    }
  }

  #beginJournal(): void {
    const failed = this.#failed.sort((one, other) => one.arrival - other.arrival);
    this.#failed = [];
    this.#options.logger.warn("message store is out of reach: webhooks of sources with journal: true are journaled");
    for (const { write } of failed) write();
    this.#beginReplay();
    this.#openGate();
  }

  #openGate(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  #beginReplay(): void {
    this.#mode = "journal";
    this.#replaying = this.#replay().catch((error: unknown) => {
      if (!this.#stopped.signal.aborted) throw error;
    });
  }

  /** Until nothing is left, or the stop. */
  async #replay(): Promise<void> {
    const { journal, retryMs = defaultRetryMs, errors, logger } = this.#options;
    const { signal } = this.#stopped;
    let isReached = false;
    let items = 0;
    while (!signal.aborted) {
      const beganAt = performance.now();
      try {
        // While the queues are out of reach nobody waits for them.
        if (isReached && journal.items <= batchItems) {
          items += await this.#finish();
          break;
        }
        const replayed = await this.#replayBatch();
        items += replayed;
        isReached = replayed > 0 || journal.items === 0;
      } catch (error) {
        if (signal.aborted) return;
        isReached = false;
        if (!isOutOfReach(error)) errors.report("store", error);
      }
      // Half of the time is left to others.
      const pauseMs = isReached ? performance.now() - beganAt : jittered(retryMs);
      await sleep(pauseMs, undefined, { signal, ref: false });
    }
    if (items > 0 && this.#mode === "direct") logger.info({ items }, "journal is replayed");
  }

  /** The rest, while later items wait. @returns how many there were */
  async #finish(): Promise<number> {
    const { journal } = this.#options;
    this.#gate ??= Promise.withResolvers<void>();
    let items = 0;
    try {
      await journal.flushed();
      for (let more = await this.#replayBatch(); more > 0; more = await this.#replayBatch()) items += more;
      this.#mode = "direct";
    } finally {
      this.#openGate();
    }
    return items;
  }

  async #replayBatch(): Promise<number> {
    const { journal, queues, counter } = this.#options;
    const batch = await journal.read(batchItems);
    if (!batch) return 0;
    const outcomes = await allSettled(batch.items.map(async (item) => queues.enqueue(item)));
    // Another process may have the directory by now.
    this.#stopped.signal.throwIfAborted();
    await journal.commit(batch);
    for (const { kind } of outcomes) counter.inc({ outcome: kind === "stored" ? "replayed" : "duplicate" });
    return batch.items.length;
  }
}

function isOutOfReach(error: unknown): boolean {
  return error instanceof TidegateError && error.code === "broker_unavailable";
}
