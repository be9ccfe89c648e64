/**
 * The way out: publications become emits of the old fleet, read from the change log as a service pulls it. The old fleet's Redis keeps the place of
 * the last change beside the emit itself, so a bridge that continues emits each change once, wherever the one before it ended.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Change, Place } from "../../shared/changes/contract.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import type { RoomMap } from "../../shared/rules/bridge-rooms.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import { parseChannels } from "../changes/channel-filter.ts";
import type { ChangePulls, PullRequest } from "../changes/change-pulls.ts";
import type { PullCursor } from "../changes/pull-cursor.ts";
import { LeaseEnded } from "../leases/lease-ended.ts";
import type { EmitMark } from "./fleet-connection.ts";
import type { OldFleet } from "./old-fleet.ts";

/** Emitted at once, and confirmed together. */
const batchSize = 256;
const pullWaitMs = 5_000;
const minRetryMs = 250;
const maxRetryMs = 5_000;

export type OutgoingOutcome = "emitted" | "gap";

export interface OutgoingOptions {
  /** Of the bridge, for the name under which the change log keeps what it needs. */
  name: string;
  identity: string;
  rooms: RoomMap;
  pulls: Pick<ChangePulls, "pull">;
  fleet: Pick<OldFleet, "emit" | "places">;
  /** Undefined: begin with what is published from now on. */
  cursor: PullCursor | undefined;
  /** By slot, of the last change that is known to be emitted. Outlives the session: a fleet's Redis may lose its data. */
  places: Map<number, Place>;
  /** @throws LeaseEnded. @returns its fencing token. */
  checkLease: () => number;
  count: (outcome: OutgoingOutcome) => void;
  /** Publications are about to be emitted. @param areNew none was there when the read began */
  onRead: (areNew: boolean) => void;
  /** Everything up to here is emitted. @param isLast nothing more waited @param readAt when the change log was read, by `performance.now()` */
  onDone: (cursor: PullCursor, isLast: boolean, readAt: number) => Promise<void>;
  /** Undefined: it works again. */
  onTrouble: (message: string | undefined) => void;
}

export class Outgoing {
  readonly #options: OutgoingOptions;
  readonly #stop = new AbortController();
  readonly #filter: PullRequest["filter"];
  #cursor: PullCursor | undefined;
  /** The fleet's Redis was asked for places that this process does not know. */
  #isInformed = false;

  constructor(options: OutgoingOptions) {
    this.#options = options;
    this.#cursor = options.cursor;
    this.#filter = parseChannels(options.rooms.channelPatterns.join(","));
  }

  /** Runs until it is stopped. @throws LeaseEnded, also where a bridge with a later lease has emitted. */
  async run(): Promise<void> {
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#step();
        failures = 0;
        this.#options.onTrouble(undefined);
      } catch (error) {
        if (error instanceof LeaseEnded) throw error;
        this.#isInformed = false;
        this.#options.onTrouble(excerpt((error as Error).message));
        await delay(jittered(Math.min(maxRetryMs, minRetryMs * 2 ** Math.min(failures++, 5))), undefined, {
          signal: this.#stop.signal,
        }).catch(() => undefined);
      }
    }
  }

  /** What is being emitted is not waited for: the marks tell what was. */
  stop(): void {
    this.#stop.abort();
  }

  async #step(): Promise<void> {
    const { name, pulls, fleet, count, onRead, onDone } = this.#options;
    if (!this.#isInformed) for (const [slot, place] of await fleet.places()) this.#advance(slot, place);
    this.#isInformed = true;
    const pulled = await pulls.pull({
      filter: this.#filter,
      from: this.#cursor ? { kind: "cursor", cursor: this.#cursor } : { kind: "end" },
      limit: batchSize,
      waitMs: this.#cursor ? pullWaitMs : 0,
      caller: `bridge:${name}`,
      signal: this.#stop.signal,
    });
    const readAt = performance.now();
    if (pulled.items.length > 0) onRead(pulled.hasWaited);
    for (const item of pulled.items) if (item.kind === "gap") count("gap");
    await this.#emit(pulled.items.flatMap((item) => (item.kind === "change" ? [item.change] : [])));
    this.#cursor = pulled.cursor;
    await onDone(pulled.cursor, !pulled.more, readAt);
  }

  /** All are sent before the first is confirmed. Each names the one before it, so where one fails the later ones of its slot do, too. */
  async #emit(changes: readonly Change[]): Promise<void> {
    const { rooms, identity, fleet, checkLease, count } = this.#options;
    const before = new Map<number, Place>();
    const marks: EmitMark[] = [];
    const emits: Promise<string>[] = [];
    const fence = checkLease();
    for (const { place, channel, event, data, origin } of changes) {
      const room = origin === identity ? undefined : rooms.roomOf(channel);
      const slot = slotOf(channel);
      if (room === undefined || this.#isEmitted(slot, place)) continue;
      const mark = { slot, place, before: before.get(slot), fence };
      before.set(slot, place);
      marks.push(mark);
      emits.push(fleet.emit(mark, { room, event, data: JSON.parse(data) as unknown }));
    }
    const replies = await Promise.allSettled(emits);
    // First, so that what was emitted beside a failure is not emitted again.
    for (const [index, { slot, place }] of marks.entries()) {
      const reply = replies[index];
      if (reply?.status !== "fulfilled" || (reply.value !== "emitted" && reply.value !== "repeat")) continue;
      this.#advance(slot, place);
      if (reply.value === "emitted") count("emitted");
    }
    for (const reply of replies) {
      if (reply.status === "rejected") throw reply.reason as Error;
      if (reply.value === "stale") throw new LeaseEnded();
      if (reply.value === "early") throw new Error("the fleet's Redis has lost its latest writes");
    }
  }

  #advance(slot: number, place: Place): void {
    if (!this.#isEmitted(slot, place)) this.#options.places.set(slot, place);
  }

  #isEmitted(slot: number, place: Place): boolean {
    const last = this.#options.places.get(slot);
    return last !== undefined && comparePlaces(place, last) <= 0;
  }
}
