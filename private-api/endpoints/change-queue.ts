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

/** Items under way to the store. */
const maxQueueing = 1_000;

/** A message, and the endpoints that want it. */
export interface Wanted {
  readonly slot: number;
  /** Of the change before it; {@link placeBeforeAll} where none is known. */
  readonly before: Place;
  readonly message: Message;
  readonly endpoints: readonly StoredEndpoint[];
}

/** @param places where the reads began, by slot; undefined: at a time */
export function wantedOf(
  reads: readonly SlotRead[],
  places: ReadonlyMap<number, Place | undefined>,
  index: Pick<EndpointIndex, "match" | "all">,
): Wanted[] {
  const gap = gapOf(reads);
  const message = gap && gapMessage(gap);
  return reads.flatMap((read) => wantedOfSlot(read, places.get(read.slot) ?? placeBeforeAll, { index, gap: message }));
}

/** Gaps of several slots become one: an endpoint is sent it once. */
export function gapOf(reads: readonly SlotRead[]): Gap | undefined {
  const gaps = reads.flatMap(({ gap }) => gap ?? []);
  if (gaps.length === 0) return undefined;
  return { from: Math.min(...gaps.map(({ from }) => from)), to: Math.max(...gaps.map(({ to }) => to)) };
}

function wantedOfSlot(
  { slot, gap, changes }: SlotRead,
  place: Place,
  given: { index: Pick<EndpointIndex, "match" | "all">; gap: Message | undefined },
): Wanted[] {
  const { index } = given;
  const wanted: Wanted[] = [];
  let before = place;
  if (gap && given.gap) {
    const endpoints = [...index.all].filter((stored) => stored.startsAt <= gap.to && hasChannelsIn(stored, slot));
    wanted.push({ slot, before, message: given.gap, endpoints });
  }
  for (const change of changes) {
    const matching = index.match(change.channel, change.event);
    const endpoints = [...matching].filter((stored) => wants(stored, change));
    if (endpoints.length > 0) wanted.push({ slot, before, message: changeMessage(change), endpoints });
    before = change.place;
  }
  return wanted;
}

export class ChangeQueue {
  readonly #queues: Pick<QueueStore, "enqueue">;
  readonly #backlogs: Backlogs;
  readonly #behind: Behind;

  constructor(options: { queues: Pick<QueueStore, "enqueue">; backlogs: Backlogs; behind: Behind }) {
    this.#queues = options.queues;
    this.#backlogs = options.backlogs;
    this.#behind = options.behind;
  }

  /** Resolves once everything is stored, but for endpoints that are behind, or fall behind now. */
  async add(wanted: readonly Wanted[]): Promise<void> {
    const counts = new Map<string, number>();
    for (const { endpoints } of wanted) {
      for (const { endpoint } of endpoints) counts.set(endpoint.id, (counts.get(endpoint.id) ?? 0) + 1);
    }
    await this.#backlogs.expect(counts);
    const turns = new Turns();
    let queueing: Promise<unknown>[] = [];
    for (const { slot, before, message, endpoints } of wanted) {
      for (const stored of endpoints) {
        const { id } = stored.endpoint;
        if (this.#behind.has(id, slot)) continue;
        if (isTaking(stored) && this.#backlogs.take(id)) queueing.push(this.#queues.enqueue(itemFor(stored, message)));
        else this.#behind.set(stored, slot, before);
        if (queueing.length < maxQueueing) continue;
        await Promise.all(queueing);
        queueing = [];
        await turns.pause();
      }
    }
    await Promise.all(queueing);
  }

  /** Messages of one endpoint, whose window has room for them. */
  async addFor(stored: StoredEndpoint, messages: readonly Message[]): Promise<void> {
    await Promise.all(
      messages.map(async (message) => {
        this.#backlogs.take(stored.endpoint.id);
        return this.#queues.enqueue(itemFor(stored, message));
      }),
    );
  }
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
