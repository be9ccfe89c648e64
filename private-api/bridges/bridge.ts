/** Runs one bridge under its lease: joins the old fleet, again after each interruption, and carries messages both ways. */
import type { Place } from "../../shared/changes/contract.ts";
import type { RedisServers } from "../../shared/redis/servers.ts";
import { carriesIn, carriesOut } from "../../shared/rules/bridges.ts";
import { RoomMap } from "../../shared/rules/bridge-rooms.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { PacedLog } from "../../shared/runtime/paced-log.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import type { ShardLease, SqlShardStore } from "../../shared/sql-sources/contract.ts";
import type { ChangePulls } from "../changes/change-pulls.ts";
import { formatCursor, parseCursor } from "../changes/pull-cursor.ts";
import { LeaseEnded } from "../leases/lease-ended.ts";
import type { LeasedReader, ReaderTerms } from "../leases/leased-readers.ts";
import { Waiting } from "../leases/waiting.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import { BridgeCondition } from "./bridge-condition.ts";
import { type BridgeItem, storedName } from "./bridge-items.ts";
import type { BridgeStatus } from "./bridge-status.ts";
import { FleetRefused, locateFleet, OldFleet } from "./old-fleet.ts";
import { Incoming, type IncomingOptions } from "./incoming.ts";
import { marksOf } from "./marks.ts";
import { Outgoing } from "./outgoing.ts";
import type { BridgeProgress } from "./progress.ts";
import { type EmitReading, type EmitRefusal, readEmit } from "./received-emit.ts";
import { StoredProgress } from "./stored-progress.ts";

const minRetryMs = 250;
const maxRetryMs = 5_000;
/** A session that lasted as long worked: the next attempt after it is the first one again. */
const provenMs = 10_000;
/** Until the operator has changed something. */
const refusedRetryMs = 15_000;
/** How often progress is stored. A bridge that continues from an older one repeats nothing: see emit.lua, and the marks of publications. */
const saveEveryMs = 500;

type Direction = "in" | "out";
/** By outcome in the metrics, the member of the stored counts. */
const countedAs = {
  published: "published",
  duplicate: "published",
  ephemeral: "published",
  refused: "refused",
  dropped: "dropped",
  emitted: "emitted",
  gap: "gaps",
} as const;
/** Of log lines for one reason. */
const refusalRate = { capacity: 1, perSecond: 1 / 60 };

export interface BridgeOptions extends ReaderTerms {
  item: BridgeItem;
  /** Undefined where the variable is not set. */
  url: string | undefined;
  openServers: (url: string) => RedisServers;
  store: Pick<SqlShardStore, "read" | "save">;
  incoming: Pick<IncomingOptions, "broker" | "rules" | "changeBudget">;
  pulls: Pick<ChangePulls, "pull">;
  /** Above every number that a bridge in this process got under the same lease. */
  nextNumber: () => number;
  metrics: Pick<PrivateApiMetrics, "bridgeMessages" | "unlistedNamespaces">;
  errors: ContainedErrors;
  logger: Logger;
}

export class Bridge implements LeasedReader<BridgeItem> {
  readonly #options: BridgeOptions;
  readonly #rooms: RoomMap;
  readonly #logger: Logger;
  readonly #refusals: PacedLog;
  readonly #waiting = new Waiting();
  readonly #progress: StoredProgress;
  /** Of the fleet. One for all sessions, because it warns once for each outage. */
  #servers: RedisServers | undefined;
  /** @see OutgoingOptions.places */
  readonly #places = new Map<number, Place>();
  readonly #condition: BridgeCondition;
  #endSession: ((reason: Error | undefined) => void) | undefined;
  #failures = 0;
  #running: Promise<void> | undefined;

  constructor(options: BridgeOptions) {
    this.#options = options;
    this.#rooms = new RoomMap(options.item.rule.rooms);
    this.#logger = options.logger.child({ bridge: options.item.name });
    this.#condition = new BridgeCondition({ logger: this.#logger, emits: carriesOut(options.item.rule) });
    this.#refusals = new PacedLog({ logger: this.#logger, rate: refusalRate });
    const name = storedName(options.item.name);
    this.#progress = new StoredProgress({ store: options.store, name, lease: () => this.#lease() });
  }

  get item(): BridgeItem {
    return this.#options.item;
  }

  get status(): BridgeStatus {
    return this.#condition.status;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** What the old fleet has sent so far is published first, where the lease still holds: not where another process is to run the bridge. */
  async stop(): Promise<void> {
    this.#waiting.stop();
    this.#endSession?.(undefined);
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#waiting.isStopped) {
      const begunAt = performance.now();
      try {
        await this.#session();
      } catch (error) {
        if (this.#waiting.isStopped) return;
        if (error instanceof LeaseEnded) {
          this.#options.onLeaseEnded();
          return;
        }
        this.#condition.isRefused = error instanceof FleetRefused;
        if (performance.now() - begunAt > provenMs) this.#failures = 0;
        if (!(error instanceof TidegateError)) this.#failures++;
        this.#condition.note("fleet", (error as Error).message);
      }
      const retryMs = Math.min(maxRetryMs, minRetryMs * 2 ** Math.min(this.#failures, 8));
      if (!this.#waiting.isStopped)
        await this.#waiting.wait(jittered(this.#condition.isRefused ? refusedRetryMs : retryMs));
    }
  }

  /** From joining the fleet until the connection to it, or the lease, ends. */
  async #session(): Promise<void> {
    const { item, openServers, errors } = this.#options;
    const { rule } = item;
    const { url, fleetId } = locateFleet(rule, this.#options.url);
    const progress = await this.#progress.load({ rule, fleetId });
    if (this.#waiting.isStopped) return;
    const { identity } = progress;
    const incoming = carriesIn(rule) ? this.#createIncoming(identity, fleetId) : undefined;
    const fleet = new OldFleet({
      ...{ rule, rooms: this.#rooms, servers: (this.#servers ??= openServers(url)), identity, errors },
      after: progress.offset,
      onEmit: (emit, offset) => incoming && this.#receive(incoming, readEmit(emit, this.#rooms, identity), offset),
      room: async () => incoming?.room(),
      onMalformed: (offset) => incoming && this.#receive(incoming, { kind: "refused", reason: "malformed" }, offset),
    });
    const ended = Promise.withResolvers<Error | undefined>();
    this.#endSession = ended.resolve;
    const saving = errors.every(saveEveryMs, () => this.#progress.saveOrRetry(ended.resolve));
    try {
      const offset = await fleet.connect();
      // Stored first: the next bridge continues there, however soon this one ends.
      if (incoming && offset !== undefined) this.#progress.advance({ offset });
      await this.#progress.save();
      await fleet.join();
      const outgoing = carriesOut(rule) ? this.#createOutgoing(fleet, progress) : undefined;
      this.#condition.joined();
      const running = [incoming?.run(), outgoing?.run()].filter((way) => way !== undefined);
      for (const way of running) way.catch(ended.resolve);
      void fleet.ended.then(ended.resolve);
      const reason = await ended.promise.finally(() => {
        fleet.leave();
        incoming?.stop();
        outgoing?.stop();
      });
      await Promise.allSettled(running);
      await this.#progress.save();
      if (reason) throw reason;
    } finally {
      this.#endSession = undefined;
      clearInterval(saving);
      fleet.leave();
    }
  }

  #createIncoming(identity: string, fleetId: string): Incoming {
    return new Incoming({
      ...this.#options.incoming,
      ...{ identity, fleetId, metrics: this.#options.metrics },
      checkLease: () => this.#lease(),
      count: (outcome) => (outcome === "unlisted" ? this.#refuse("namespace") : this.#count("in", outcome)),
      onDone: (offset) => offset !== undefined && this.#progress.advance({ offset }),
      onTrouble: (message) => this.#condition.note("in", message),
    });
  }

  #createOutgoing(fleet: OldFleet, { identity, cursor }: BridgeProgress): Outgoing {
    return new Outgoing({
      ...{ name: this.item.name, identity, rooms: this.#rooms, pulls: this.#options.pulls, fleet },
      places: this.#places,
      cursor: cursor === undefined ? undefined : parseCursor(cursor),
      checkLease: () => this.#lease().fence,
      count: (outcome) => this.#count("out", outcome),
      onRead: (areNew) => this.#condition.read(areNew),
      onDone: async (next, isLast, readAt) => {
        // The next bridge continues there, however soon this one ends.
        if (this.#progress.advanceCursor(formatCursor(next))) await this.#progress.save();
        this.#condition.emitted(isLast, readAt);
      },
      onTrouble: (message) => this.#condition.note("out", message),
    });
  }

  #receive(incoming: Incoming, reading: EmitReading, offset: string | undefined): void {
    if (reading.kind === "refused") this.#refuse(reading.reason);
    const emits = reading.kind === "carried" ? reading.emits : [];
    if (emits.length === 0 && offset === undefined) return;
    const lease = this.#options.lease();
    if (!lease) {
      // The next bridge reads an entry of a stream again.
      if (offset === undefined) for (const _ of emits) this.#count("in", "dropped");
      this.#endSession?.(new LeaseEnded());
      return;
    }
    incoming.add({ emits, marks: marksOf({ emits, offset, lease, nextNumber: this.#options.nextNumber }), offset });
  }

  #refuse(reason: EmitRefusal | "namespace"): void {
    this.#count("in", "refused");
    this.#refusals.warn(reason, { reason }, "an emit of the old fleet cannot become a publication");
  }

  #count(direction: Direction, outcome: keyof typeof countedAs): void {
    this.#options.metrics.bridgeMessages.inc({ bridge: this.item.name, direction, outcome });
    this.#progress.count(countedAs[outcome]);
  }

  /** @throws LeaseEnded */
  #lease(): ShardLease {
    const lease = this.#options.lease();
    if (!lease) throw new LeaseEnded();
    return lease;
  }
}
