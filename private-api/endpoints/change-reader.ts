/**
 * Reads the change log once for all endpoints, and queues for each what it asks for. An endpoint that takes nothing, or whose window
 * is full, falls behind: the reader keeps its place in the log, and {@link CatchUp} reads for it separately once it has room again.
 *
 * The reader queues changes before it stores their place. So after a crash it repeats reads, and the queues drop the duplicates. A
 * Redis that loses its latest writes loses a place together with the items that were queued before it. The leases on its slots end,
 * so that reads continue from the places that it still has.
 */
import { type ChangeLog, type ReadFrom, readerLeaseMs, type SlotRead } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { LostWrites, type QueueStore } from "../../shared/queues/contract.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import type { TableRows } from "../changes/table-rows.ts";
import { LeaseEnded } from "../leases/lease-ended.ts";
import { Waiting } from "../leases/waiting.ts";
import { Backlogs } from "./backlogs.ts";
import { Behind } from "./behind.ts";
import { CatchUp } from "./catch-up.ts";
import { type ChangeDispatcher, ChangeQueue, gapOf, wantedOf } from "./change-queue.ts";
import type { CurrentEndpoints } from "./current-endpoints.ts";
import { CursorSweep } from "./cursor-sweep.ts";
import { type HeldSlot, HeldSlots, noteQueued } from "./held-slots.ts";
import { MovedEndpoints } from "./moved-endpoints.ts";
import { QueueHistories } from "./queue-histories.ts";
import { RowFetches } from "./row-fetches.ts";
import { SlotTakeover } from "./slot-takeover.ts";
import { StoppingEndpoints } from "./stopping-endpoints.ts";
import { StoredPlaces } from "./stored-places.ts";

/** Bounds of one step, in all slots together. Small, because many endpoints may want each change. */
const stepBounds = { limit: 200, maxBytes: 1024 * 1024 };
/** While endpoints are behind, catch-up runs this often, between the steps for all others. */
const catchUpEveryMs = 50;
/** News of changes may be lost: every slot is read this often. */
const sweepMs = 5_000;
/** After a failure of the store. */
const storeRetryMs = 250;
/**
 * With queues in several Redis, a place is stored this long after it was reached. That is longer than the span of writes that a failover
 * loses. After a crash, the changes of that time are queued again, and the queues drop the duplicates.
 */
const placeDelayMs = 5_000;

export class ChangeReader implements Service {
  readonly #log: ChangeLog;
  readonly #current: CurrentEndpoints;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #slots: HeldSlots;
  readonly #behind = new Behind();
  readonly #places: StoredPlaces;
  readonly #backlogs: Backlogs;
  readonly #queue: ChangeQueue;
  readonly #catchUp: CatchUp;
  readonly #moved: MovedEndpoints;
  readonly #stops: StoppingEndpoints;
  readonly #takeover: SlotTakeover;
  readonly #sweep: CursorSweep;
  /** Slots that may have changes after their place, in turn. */
  readonly #dirty = new Set<number>();
  #timers: NodeJS.Timeout[] = [];
  readonly #waiting = new Waiting();
  #running: Promise<void> | undefined;

  /**
   * @param options.readers how many processes share the slots
   * @param options.nextSpare see {@link ChangeDispatcher}; left out: nothing waits for workers
   */
  constructor(options: {
    log: ChangeLog;
    queues: Pick<QueueStore, "enqueue" | "waitingOfSource" | "histories">;
    current: CurrentEndpoints;
    tables: TableRows;
    readers: () => Promise<number>;
    nextSpare?: ChangeDispatcher["nextSpare"];
    errors: ContainedErrors;
    logger: Logger;
  }) {
    const { log, queues, current } = options;
    this.#log = log;
    this.#current = current;
    this.#errors = options.errors;
    this.#logger = options.logger;
    const behind = this.#behind;
    this.#slots = new HeldSlots({ log, readers: options.readers, onLost: (slot) => behind.lose(slot) });
    const histories = new QueueHistories(queues);
    const delayMs = (): number => (histories.areSeveral ? placeDelayMs : 0);
    this.#places = new StoredPlaces({ log, slots: this.#slots, behind, delayMs });
    this.#takeover = new SlotTakeover({ slots: this.#slots, places: this.#places, behind, current, histories });
    this.#backlogs = new Backlogs(queues);
    this.#moved = new MovedEndpoints({ current, places: this.#places, behind });
    const isLoaded = (slot: number): boolean => this.#takeover.isLoaded(slot);
    this.#stops = new StoppingEndpoints({ log, current, slots: this.#slots, moved: this.#moved, behind, isLoaded });
    const { nextSpare } = options;
    this.#queue = new ChangeQueue({
      ...{ queues: histories, backlogs: this.#backlogs, behind, stops: this.#stops },
      // Others take what this process has no worker for.
      ...(nextSpare && { nextSpare: () => (this.#slots.all.size === everySlot.length ? nextSpare() : undefined) }),
    });
    const fetches = new RowFetches({
      tables: options.tables,
      onFetched: (id) => {
        this.#catchUp.lookSoon(id);
        this.#waiting.wake();
      },
    });
    this.#catchUp = new CatchUp({
      ...{ slots: this.#slots, behind, backlogs: this.#backlogs, queue: this.#queue, fetches },
    });
    this.#sweep = new CursorSweep({ log, slots: this.#slots, current });
  }

  async start(): Promise<void> {
    this.#moved.start();
    this.#stops.start();
    this.#current.listen((id, stored) => this.#changed(id, stored));
    this.#errors.contain("store", () => this.#listen());
    this.#timers = [
      this.#errors.every(readerLeaseMs / 3, () => this.#renew()),
      this.#errors.every(sweepMs, () => this.#readSoon(this.#slots.all.keys())),
      this.#errors.every(sweepMs, () => this.#sweepCursors()),
    ];
    await this.#renew();
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#waiting.stop();
    await this.#running;
    await this.#slots.releaseAll().catch((error: unknown) => this.#report(error, "slots could not be released"));
  }

  /** Resolves once Redis can be reached. The start does not wait for it. */
  async #listen(): Promise<void> {
    await this.#log.listen({
      onAppended: (slot) => this.#readSoon([slot]),
      onRestored: () => this.#readSoon(this.#slots.all.keys()),
    });
    this.#readSoon(this.#slots.all.keys());
  }

  #readSoon(slots: Iterable<number>): void {
    const held = [...slots].filter((slot) => this.#slots.all.has(slot));
    for (const slot of held) this.#dirty.add(slot);
    // Not for those that were dirty before: they may be of another process by now, and the loop would never pause.
    if (held.length > 0) this.#waiting.wake();
  }

  #changed(id: string, stored: StoredEndpoint | undefined): void {
    this.#catchUp.lookSoon(id);
    this.#moved.note(id, stored);
    this.#stops.note(id, stored);
    if (!stored) {
      this.#behind.forget(id);
      this.#backlogs.forget(id);
    } else {
      // Slots were not read while there were no endpoints: the first endpoint begins there.
      const unread = [...this.#slots.all].filter(([, { place }]) => place === undefined).map(([slot]) => slot);
      this.#readSoon(unread);
    }
    this.#waiting.wake();
  }

  async #renew(): Promise<void> {
    try {
      await this.#takeover.renew();
      this.#waiting.wake();
    } catch (error) {
      this.#report(error, "the slots of the change log could not be renewed");
    }
  }

  /** Two sweeps at once take different slots. */
  async #sweepCursors(): Promise<void> {
    try {
      await this.#sweep.step();
    } catch (error) {
      this.#report(error, "sweep of unused cursors in the change log failed");
    }
  }

  async #run(): Promise<void> {
    while (!this.#waiting.isStopped) {
      try {
        // The steps below see everything that was announced up to now.
        this.#waiting.takeNotice();
        this.#readSoon(await this.#takeover.step());
        await this.#step();
        if (await this.#catchUp.step(this.#current.index)) await this.#places.save();
        await this.#stops.mark();
        await this.#idle(this.#behind.isEmpty ? readerLeaseMs : catchUpEveryMs);
      } catch (error) {
        if (error instanceof LostWrites) this.#takeover.checkSoon();
        this.#report(error, "the change log could not be read for endpoints");
        await new Promise((resolve) => setTimeout(resolve, storeRetryMs));
      }
    }
  }

  /** Until there is news, or the time is over. */
  async #idle(maxMs: number): Promise<void> {
    if (this.#takeover.isDue || !this.#moved.isEmpty || this.#slotsToRead().length > 0) return;
    await this.#waiting.wait(maxMs);
  }

  /** Dirty slots whose places are loaded. Slots whose lease may end soon are left out: they wait for its renewal. */
  #slotsToRead(): readonly number[] {
    return [...this.#dirty].filter((slot) => this.#takeover.isLoaded(slot) && this.#slots.of(slot));
  }

  /** Reads what is new in all slots. */
  async #step(): Promise<void> {
    const slots = this.#slotsToRead();
    for (const slot of slots) this.#dirty.delete(slot);
    if (slots.length === 0 && this.#moved.isEmpty) return;
    try {
      if (!(await this.#anyEndpoints())) {
        await this.#forgetPlaces(slots);
        return;
      }
      const begun = new Map(slots.map((slot) => [slot, this.#slots.of(slot)]));
      const all = await this.#read(begun);
      // After the read: every endpoint that began before the changes is known then.
      await this.#current.catchUp();
      await this.#moved.load();
      await this.#stops.load(slots);
      // A slot that was lost, and maybe taken again, is read from its stored places: they say where each endpoint continues.
      const isSame = ({ slot }: SlotRead): boolean => this.#slots.of(slot) === begun.get(slot);
      const places = new Map([...begun].map(([slot, held]) => [slot, held?.place]));
      const { index } = this.#current;
      const reads = all.filter(isSame).map((read) => this.#catchUp.leaveRows(read, places.get(read.slot), index));
      const { wanted, covered } = wantedOf(reads, places, index);
      for (const read of covered) noteQueued(begun.get(read.slot), read);
      await this.#queue.add(wanted, (slot) => this.#slots.of(slot) === begun.get(slot));
      for (const { slot } of covered) if (this.#slots.all.get(slot) !== begun.get(slot)) this.#behind.lose(slot);
      for (const { slot, place } of covered.filter(isSame)) {
        const held = begun.get(slot);
        if (held) Object.assign(held, { place, gap: undefined });
      }
      const read = covered.filter(isSame);
      await this.#places.save(read);
      this.#readRest(slots, read);
    } catch (error) {
      this.#readSoon(slots);
      throw error;
    }
  }

  /** Schedules what the bounds left unread. Slots that were read go behind the others, so that a busy slot holds up none of them. */
  #readRest(slots: readonly number[], read: readonly SlotRead[]): void {
    const isWhole = new Set(read.filter(({ place, newest }) => place === newest).map(({ slot }) => slot));
    this.#readSoon(slots.filter((slot) => !isWhole.has(slot)));
    for (const { slot } of read) if (this.#dirty.delete(slot)) this.#dirty.add(slot);
  }

  async #read(begun: ReadonlyMap<number, HeldSlot | undefined>): Promise<readonly SlotRead[]> {
    const reads: SlotRead[] = [];
    // A gap that is known already must reach all endpoints, and a read with rows drops it. So only slots without one are read with rows.
    for (const hasGap of [false, true]) {
      /** Where slots without a place start. Computed once for each pass: it scans all endpoints. */
      let first: ReadFrom | undefined;
      const fromOf = ({ place }: HeldSlot): ReadFrom =>
        place === undefined ? (first ??= this.#firstStart()) : { kind: "after", place };
      const queries = [...begun].flatMap(([slot, held]) =>
        held && (held.gap !== undefined) === hasGap ? [{ slot, from: fromOf(held) }] : [],
      );
      if (queries.length > 0) reads.push(...(await this.#slots.read(queries, { ...stepBounds, withRows: !hasGap })));
    }
    return reads.map((read) => {
      const gap = gapOf([read, { gap: begun.get(read.slot)?.gap }]);
      return gap ? { ...read, gap } : read;
    });
  }

  #firstStart(): ReadFrom {
    let at = Infinity;
    // Endpoints that begin at 0 were moved there, and have places of their own.
    for (const { startsAt } of this.#current.index.all) if (startsAt > 0) at = Math.min(at, startsAt);
    return at === Infinity ? { kind: "start" } : { kind: "time", at };
  }

  /** Asks the store if none is known: the first endpoint may be unknown to this process, and older than the changes. */
  async #anyEndpoints(): Promise<boolean> {
    if (this.#current.index.size === 0) await this.#current.catchUp();
    return this.#current.index.size > 0;
  }

  /** Removes the places: without endpoints nothing is read, and the log need not be kept. */
  async #forgetPlaces(slots: readonly number[]): Promise<void> {
    const read = slots.filter((slot) => this.#slots.of(slot)?.place !== undefined);
    await this.#places.save(read.map((slot) => ({ slot, place: undefined })));
    for (const slot of read) {
      const held = this.#slots.of(slot);
      if (held) held.place = undefined;
    }
  }

  #report(error: unknown, message: string): void {
    const isExpected = error instanceof TidegateError || error instanceof LostWrites || error instanceof LeaseEnded;
    if (isExpected) this.#logger.debug({ err: error }, message);
    else this.#errors.report("store", error);
  }
}
