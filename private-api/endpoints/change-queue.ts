/** Queues changes for endpoints, within the window of each. */
import { type Change, type Gap, type Place, placeBeforeAll, type SlotRead } from "../../shared/changes/contract.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { stateOf } from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";
import { everySlot, slotOf } from "../../shared/redis/slots.ts";
import { Turns } from "../../shared/runtime/timing.ts";
import { joinedGap } from "../changes/joined-gap.ts";
import { LeaseEnded } from "../leases/lease-ended.ts";
import type { Backlogs } from "./backlogs.ts";
import type { Behind } from "./behind.ts";
import type { EndpointIndex } from "./endpoint-index.ts";
import { changeMessage, gapMessage, itemFor, type Message } from "./queued-change.ts";
import type { StoppingEndpoints } from "./stopping-endpoints.ts";

/** Under way to the store. */
const maxQueueing = { items: 1_000, bytes: 8 * 1024 * 1024 };
/** Deliveries of one step, about: the step ends with the change that reaches this number. */
const maxDeliveries = 20_000;
/** What is queued waits for spare workers until a step has taken this long: other slots wait, too. */
const waitingMs = 250;

/** Stores what is queued for endpoints, and delivers it. */
export interface ChangeDispatcher extends Pick<QueueStore, "enqueue"> {
  /** @returns undefined: a worker is spare, and delivers what is queued now without a claim; otherwise whether one was after a moment */
  nextSpare(): Promise<boolean> | undefined;
}

/** A message, and the endpoints that want it. */
export interface Wanted {
  readonly slot: number;
  /** Of the change before it; {@link placeBeforeAll} where none is known. */
  readonly before: Place;
  readonly message: Message;
  readonly endpoints: readonly StoredEndpoint[];
}

/**
 * @param places the places after which the reads began, by slot; undefined: the read began at a time
 * @returns `covered`: the reads, cut off after the last change that was considered for `wanted`
 */
export function wantedOf(
  reads: readonly SlotRead[],
  places: ReadonlyMap<number, Place | undefined>,
  index: Pick<EndpointIndex, "match" | "all">,
): { wanted: readonly Wanted[]; covered: readonly SlotRead[] } {
  const gap = gapOf(reads);
  const message = gap && gapMessage(gap);
  const wanted: Wanted[] = [];
  const covered: SlotRead[] = [];
  let left = maxDeliveries;
  for (const read of reads) {
    if (left <= 0) break;
    const given = { index, gap: message, left };
    const ofSlot = wantedOfSlot(read, places.get(read.slot) ?? placeBeforeAll, given);
    for (const { endpoints } of ofSlot.wanted) left -= endpoints.length;
    wanted.push(...ofSlot.wanted);
    covered.push(ofSlot.covered);
  }
  return { wanted, covered };
}

/** Merges the gaps of several slots, so that an endpoint gets one message for all of them. */
export function gapOf(reads: readonly { readonly gap?: Gap | undefined }[]): Gap | undefined {
  return joinedGap(reads.flatMap(({ gap }) => gap ?? []));
}

/** Ends once `given.left` deliveries are reached, after one change at the earliest. */
function wantedOfSlot(
  read: SlotRead,
  place: Place,
  given: { index: Pick<EndpointIndex, "match" | "all">; gap: Message | undefined; left: number },
): { wanted: readonly Wanted[]; covered: SlotRead } {
  const { slot, gap, changes } = read;
  const { index } = given;
  const wanted: Wanted[] = [];
  let before = place;
  let { left } = given;
  if (gap && given.gap) {
    const endpoints = [...index.all].filter((stored) => stored.startsAt <= gap.to && hasChannelsIn(stored, slot));
    wanted.push({ slot, before, message: given.gap, endpoints });
    left -= endpoints.length;
  }
  for (const [at, change] of changes.entries()) {
    if (left <= 0 && at > 0) return { wanted, covered: { ...read, changes: changes.slice(0, at), place: before } };
    const matching = index.match(change.channel, change.event);
    const endpoints = [...matching].filter((stored) => wants(stored, change));
    if (endpoints.length > 0) wanted.push({ slot, before, message: changeMessage(change), endpoints });
    left -= endpoints.length;
    before = change.place;
  }
  return { wanted, covered: read };
}

/** Endpoints that fall behind in one slot, and the place that each has got everything up to. */
type Fallen = Map<string, { stored: StoredEndpoint; place: Place }>;

export class ChangeQueue {
  readonly #queues: Pick<QueueStore, "enqueue">;
  readonly #nextSpare: ChangeDispatcher["nextSpare"];
  readonly #backlogs: Backlogs;
  readonly #behind: Behind;
  readonly #stops: Pick<StoppingEndpoints, "hasStopped">;

  /** @param options.nextSpare see {@link ChangeDispatcher}; left out: nothing waits for workers */
  constructor(options: {
    queues: Pick<QueueStore, "enqueue">;
    nextSpare?: ChangeDispatcher["nextSpare"];
    backlogs: Backlogs;
    behind: Behind;
    stops: Pick<StoppingEndpoints, "hasStopped">;
  }) {
    this.#queues = options.queues;
    this.#nextSpare = options.nextSpare ?? ((): undefined => undefined);
    this.#backlogs = options.backlogs;
    this.#behind = options.behind;
    this.#stops = options.stops;
  }

  /**
   * Resolves once everything is stored, except for endpoints that are behind or fall behind now. If it rejects, no endpoint has fallen behind:
   * the caller adds the same changes again, and the queues drop those that are stored already.
   * @param isHeld whether this process still holds the slot under the lease of the read. If not, another process decides what is queued
   * @throws LeaseEnded, and what the queues throw
   */
  async add(wanted: readonly Wanted[], isHeld: (slot: number) => boolean): Promise<void> {
    const taking = this.#withoutBehind(wanted);
    await this.#backlogs.expect(this.#countsOf(taking));
    const turns = new Turns();
    const fallen = new Map<number, Fallen>();
    // Rejections become values: one that is not awaited yet would end the process.
    let queueing: Promise<{ error: unknown } | undefined>[] = [];
    let hasFailed = false;
    const fail = (error: unknown): { error: unknown } => {
      hasFailed = true;
      return { error };
    };
    let bytes = 0;
    let waitsUntil = performance.now() + waitingMs;
    for (const { slot, before, message, endpoints } of taking) {
      // What follows must not be stored ahead of what failed.
      if (hasFailed) break;
      const ofSlot: Fallen = fallen.get(slot) ?? new Map();
      fallen.set(slot, ofSlot);
      for (const stored of endpoints) {
        const { id } = stored.endpoint;
        if (ofSlot.has(id)) continue;
        const spare = performance.now() < waitsUntil ? this.#nextSpare() : undefined;
        if (spare && !(await spare)) waitsUntil = 0;
        // After each pause: this process may have been frozen.
        if (!isHeld(slot)) throw new LeaseEnded();
        if (!this.#isTaking(stored, slot) || !this.#backlogs.take(id, message.bytes)) {
          ofSlot.set(id, { stored, place: before });
          continue;
        }
        queueing.push(this.#queues.enqueue(itemFor(stored, message)).then(noFailure, fail));
        bytes += message.bytes;
        if (queueing.length < maxQueueing.items && bytes < maxQueueing.bytes) continue;
        await assertStored(queueing);
        queueing = [];
        bytes = 0;
      }
      await turns.pause();
    }
    await assertStored(queueing);
    for (const [slot, ofSlot] of fallen) {
      for (const { stored, place } of ofSlot.values()) this.#behind.set(stored, slot, place);
    }
  }

  /**
   * Decided once for a whole call of {@link add}. Losing a slot forgets which endpoints are behind in it: decided later, they would get these
   * changes before the earlier ones that they lack.
   */
  #withoutBehind(wanted: readonly Wanted[]): readonly Wanted[] {
    if (this.#behind.isEmpty) return wanted;
    return wanted.map((each) => ({
      ...each,
      endpoints: each.endpoints.filter(({ endpoint }) => !this.#behind.has(endpoint.id, each.slot)),
    }));
  }

  /** By endpoint, what may be queued for it now. */
  #countsOf(wanted: readonly Wanted[]): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { slot, endpoints } of wanted) {
      for (const stored of endpoints) {
        const { id } = stored.endpoint;
        if (this.#isTaking(stored, slot)) counts.set(id, (counts.get(id) ?? 0) + 1);
      }
    }
    return counts;
  }

  /** Whether changes of the slot are queued for the endpoint. If not, it falls behind, and its place is kept. */
  #isTaking(stored: StoredEndpoint, slot: number): boolean {
    return stateOf(stored.endpoint) === "live" && !this.#stops.hasStopped(stored, slot);
  }

  /** Messages of one endpoint, whose window has room for them. */
  async addFor(stored: StoredEndpoint, messages: readonly Message[]): Promise<void> {
    await Promise.all(
      messages.map(async (message) => {
        this.#backlogs.take(stored.endpoint.id, message.bytes);
        return this.#queues.enqueue(itemFor(stored, message));
      }),
    );
  }
}

/** Whether catch-up reads for the endpoint where it is behind. If not, its place is kept. */
export function isTaking({ endpoint }: StoredEndpoint): boolean {
  return stateOf(endpoint) === "live" && endpoint.stopping === undefined;
}

/** Whether the slot may have changes of its channels: otherwise no gap of the slot concerns it. */
export function hasChannelsIn({ endpoint }: StoredEndpoint, slot: number): boolean {
  return endpoint.channels.some((pattern) => pattern.endsWith("*") || slotOf(pattern) === slot);
}

/** The slots for which {@link hasChannelsIn} is true: quicker where all slots are looked at. */
export function channelSlots({ endpoint: { channels } }: StoredEndpoint): ReadonlySet<number> {
  return new Set(channels.some((pattern) => pattern.endsWith("*")) ? everySlot : channels.map(slotOf));
}

/** Whether a change that matches the endpoint's channels and events follows the position at which the endpoint begins. */
export function wants({ endpoint, startsAt }: StoredEndpoint, { channel, place, at }: Change): boolean {
  const after = endpoint.after?.[channel];
  return after === undefined ? at >= startsAt : comparePlaces(place, after) > 0;
}

function noFailure(): undefined {
  return undefined;
}

async function assertStored(queueing: readonly Promise<{ error: unknown } | undefined>[]): Promise<void> {
  for (const failure of await Promise.all(queueing)) if (failure) throw failure.error;
}
