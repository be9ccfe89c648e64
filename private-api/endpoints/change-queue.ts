/** Queues changes for endpoints, within the window of each. */
import { type Change, type Gap, type Place, placeBeforeAll, type SlotRead } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { stateOf } from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { Turns } from "../../shared/runtime/timing.ts";
import type { Backlogs } from "./backlogs.ts";
import type { Behind } from "./behind.ts";
import type { EndpointIndex } from "./endpoint-index.ts";
import { changeMessage, gapMessage, itemFor, type Message } from "./queued-change.ts";

/** Under way to the store. */
const maxQueueing = { items: 1_000, bytes: 8 * 1024 * 1024 };
/** Of one step: it ends with the change that reaches this, however many endpoints want the ones after it. */
const maxDeliveries = 20_000;

/** A message, and the endpoints that want it. */
export interface Wanted {
  readonly slot: number;
  /** Of the change before it; {@link placeBeforeAll} where none is known. */
  readonly before: Place;
  readonly message: Message;
  readonly endpoints: readonly StoredEndpoint[];
}

/**
 * @param places where the reads began, by slot; undefined: at a time
 * @returns `covered`: the reads, as far as their changes are among `wanted`
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

/** Gaps of several slots become one: an endpoint is sent it once. */
export function gapOf(reads: readonly SlotRead[]): Gap | undefined {
  const gaps = reads.flatMap(({ gap }) => gap ?? []);
  if (gaps.length === 0) return undefined;
  return { from: Math.min(...gaps.map(({ from }) => from)), to: Math.max(...gaps.map(({ to }) => to)) };
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
  readonly #backlogs: Backlogs;
  readonly #behind: Behind;

  constructor(options: { queues: Pick<QueueStore, "enqueue">; backlogs: Backlogs; behind: Behind }) {
    this.#queues = options.queues;
    this.#backlogs = options.backlogs;
    this.#behind = options.behind;
  }

  /**
   * Resolves once everything is stored, but for endpoints that are behind, or fall behind now. Where it rejects none has fallen behind: the
   * same changes have to be added again, and those that are stored already are dropped.
   */
  async add(wanted: readonly Wanted[]): Promise<void> {
    const taking = this.#withoutBehind(wanted);
    await this.#backlogs.expect(countsOf(taking));
    const turns = new Turns();
    const fallen = new Map<number, Fallen>();
    // Failures wait until they are asked for: a rejection that nobody awaits yet would end the process.
    let queueing: Promise<{ error: unknown } | undefined>[] = [];
    let hasFailed = false;
    let bytes = 0;
    for (const { slot, before, message, endpoints } of taking) {
      // What follows must not be stored ahead of what failed.
      if (hasFailed) break;
      const ofSlot: Fallen = fallen.get(slot) ?? new Map();
      fallen.set(slot, ofSlot);
      for (const stored of endpoints) {
        const { id } = stored.endpoint;
        if (ofSlot.has(id)) continue;
        if (!isTaking(stored) || !this.#backlogs.take(id, message.bytes)) {
          ofSlot.set(id, { stored, place: before });
          continue;
        }
        queueing.push(
          this.#queues.enqueue(itemFor(stored, message)).then(
            () => undefined,
            (error: unknown) => {
              hasFailed = true;
              return { error };
            },
          ),
        );
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

  /** Decided once: a slot that is lost meanwhile has nobody behind any more, and its endpoints would get what follows a gap. */
  #withoutBehind(wanted: readonly Wanted[]): readonly Wanted[] {
    if (this.#behind.isEmpty) return wanted;
    return wanted.map((each) => ({
      ...each,
      endpoints: each.endpoints.filter(({ endpoint }) => !this.#behind.has(endpoint.id, each.slot)),
    }));
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

/** By endpoint, what may be queued for it now. */
function countsOf(wanted: readonly Wanted[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { endpoints } of wanted) {
    for (const stored of endpoints) {
      if (isTaking(stored)) counts.set(stored.endpoint.id, (counts.get(stored.endpoint.id) ?? 0) + 1);
    }
  }
  return counts;
}

/** Whether changes are queued for it: otherwise its place is kept. */
export function isTaking({ endpoint }: StoredEndpoint): boolean {
  return stateOf(endpoint) === "live";
}

function hasChannelsIn({ endpoint }: StoredEndpoint, slot: number): boolean {
  return endpoint.channels.some((pattern) => pattern.endsWith("*") || slotOf(pattern) === slot);
}

/** Of the changes that match its channels and events, those that follow where it begins. */
export function wants({ endpoint, startsAt }: StoredEndpoint, { channel, offset, at }: Change): boolean {
  const after = endpoint.after?.[channel];
  return after === undefined ? at >= startsAt : offset > after;
}

async function assertStored(queueing: readonly Promise<{ error: unknown } | undefined>[]): Promise<void> {
  for (const failure of await Promise.all(queueing)) if (failure) throw failure.error;
}
