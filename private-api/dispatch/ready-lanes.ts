/**
 * What one dispatcher knows of ready queues, and whose turn it is: tenants take turns within a class and service, whichever slots
 * their queues are in; services take turns within a class. Pure.
 */
import type { ClaimRequest, Lane, ReadyQueues } from "../../shared/queues/contract.ts";

/** Where a slot is known to have more ready queues, so many are claimed in one turn of it: they share commands of Redis. */
const queuesInTurn = 8;

interface Place {
  /** Queues that are left of its turn. */
  left: number;
  /** There was news since it was last chosen. */
  isNew: boolean;
}

/** Slots of one tenant with ready queues, in turn. */
type Slots = Map<number, Place>;

/** Tenants in turn. */
type Tenants = Map<string, Slots>;

/** How many queues may be claimed. */
export interface Room {
  /** Free workers of a class for first attempts, or for retries. */
  free(className: string, attempt: Lane["attempt"]): number;
  /** Requests that the service can be sent now. */
  capacity(service: string): number;
  /** Of the class's workers, how many may be busy with services that are not known to answer soon, for this one to get one more. */
  share(service: string, className: string, attempt: Lane["attempt"]): number;
  /** Workers that are busy with such services. */
  doubtful(className: string, attempt: Lane["attempt"]): number;
  /** Items of one queue that are sent at once. */
  batch(service: string): number;
}

export class ReadyLanes {
  /** By class and kind of attempt; services in turn. */
  readonly #lanes = new Map<string, Map<string, Tenants>>();
  /** False: there may be more ready queues than are known here. */
  complete = true;
  readonly #maxEntries: number;
  #entries = 0;

  /** @param maxEntries slots of tenants in lanes that are remembered; what does not fit in is asked for again later */
  constructor(maxEntries = 100_000) {
    this.#maxEntries = maxEntries;
  }

  get size(): number {
    return this.#entries;
  }

  /** Those with ready queues. */
  get services(): ReadonlySet<string> {
    return new Set([...this.#lanes.values()].flatMap((services) => [...services.keys()]));
  }

  add({ class: name, service, attempt, tenant, slot }: ReadyQueues): void {
    const services = getOrAdd(this.#lanes, laneKey(name, attempt), () => new Map<string, Tenants>());
    const tenants = getOrAdd(services, service, (): Tenants => new Map());
    const slots = getOrAdd(tenants, tenant, (): Slots => new Map());
    const known = slots.get(slot);
    if (known) {
      known.isNew = true;
      return;
    }
    if (this.#entries >= this.#maxEntries) {
      this.complete = false;
      if (slots.size === 0) tenants.delete(tenant);
      return;
    }
    slots.set(slot, { left: 1, isNew: true });
    this.#entries++;
  }

  /** Whether the store had more there when it was claimed from. News that came meanwhile is newer, and keeps it. */
  claimed(ready: ReadyQueues, more: boolean): void {
    const { class: name, service, attempt, tenant, slot } = ready;
    const place = this.#lanes.get(laneKey(name, attempt))?.get(service)?.get(tenant)?.get(slot);
    if (more && place) place.left = queuesInTurn;
    else if (!place?.isNew) this.#drop(ready);
  }

  #drop({ class: name, service, attempt, tenant, slot }: ReadyQueues): void {
    const key = laneKey(name, attempt);
    const services = this.#lanes.get(key);
    const tenants = services?.get(service);
    const slots = tenants?.get(tenant);
    if (!services || !tenants || !slots?.delete(slot)) return;
    this.#entries--;
    if (slots.size === 0) tenants.delete(tenant);
    if (tenants.size === 0) services.delete(service);
    if (services.size === 0) this.#lanes.delete(key);
  }

  /** What is ready in these slots is not known any more. */
  removeSlots(removed: ReadonlySet<number>): void {
    for (const [key, services] of this.#lanes) {
      const { name, attempt } = parseLaneKey(key);
      for (const [service, tenants] of services) {
        for (const [tenant, slots] of tenants) {
          for (const slot of slots.keys())
            if (removed.has(slot)) this.#drop({ class: name, service, attempt, tenant, slot });
        }
      }
    }
  }

  /**
   * What to claim next, no more than there is room for. A tenant that is chosen goes behind the others. Slots that have several queues
   * in a turn are last: work begins in this order.
   */
  choose(room: Room): ClaimRequest[] {
    const chosen = new Map<string, { request: ReadyQueues; queues: number; isLong: boolean }>();
    const taken = new Map<string, number>();
    const capacities = new Map<string, number>();
    for (const [key, services] of this.#lanes) {
      const { name, attempt } = parseLaneKey(key);
      let free = room.free(name, attempt);
      let doubtful = room.doubtful(name, attempt);
      for (let waiting = [...services.keys()]; free > 0 && waiting.length > 0;) {
        const served: string[] = [];
        for (const service of waiting) {
          if (free <= 0) break;
          if (getOrAdd(capacities, service, () => room.capacity(service)) - (taken.get(service) ?? 0) <= 0) continue;
          const share = room.share(service, name, attempt);
          if (doubtful >= share) continue;
          const next = nextPlace(services.get(service));
          if (!next) continue;
          const { tenant, slot, isLong } = next;
          // Only the tenant may contain a space.
          const id = `${key} ${service} ${slot} ${tenant}`;
          const known = chosen.get(id);
          if (known) known.queues++;
          else chosen.set(id, { request: { class: name, service, attempt, tenant, slot }, queues: 1, isLong });
          taken.set(service, (taken.get(service) ?? 0) + 1);
          free--;
          if (share < Infinity) doubtful++;
          served.push(service);
        }
        waiting = served;
      }
      // The services that were served go behind the others.
      for (const service of taken.keys()) rotate(services, service);
    }
    const [long = [], short = []] = [true, false].map((isLong) =>
      [...chosen.values()].filter((each) => each.isLong === isLong),
    );
    return [...short, ...long].map(({ request, queues }) => ({
      ...request,
      maxQueues: queues,
      maxItems: room.batch(request.service),
    }));
  }
}

/** The tenant whose turn it is, and its next slot: both go to the end of their line. `isLong`: more queues are left of its turn. */
function nextPlace(tenants: Tenants | undefined): { tenant: string; slot: number; isLong: boolean } | undefined {
  for (const [tenant, slots] of tenants ?? []) {
    const [first] = slots;
    if (!first) continue;
    const [slot, place] = first;
    const isLong = place.left > 1;
    place.isNew = false;
    if (--place.left <= 0) {
      place.left = 1;
      slots.delete(slot);
      slots.set(slot, place);
    }
    tenants?.delete(tenant);
    tenants?.set(tenant, slots);
    return { tenant, slot, isLong };
  }
  return undefined;
}

function rotate<Value>(map: Map<string, Value>, key: string): void {
  const value = map.get(key);
  if (value === undefined) return;
  map.delete(key);
  map.set(key, value);
}

function getOrAdd<Value>(map: Map<string, Value>, key: string, create: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) {
    value = create();
    map.set(key, value);
  }
  return value;
}

function laneKey(name: string, attempt: Lane["attempt"]): string {
  return `${attempt}:${name}`;
}

function parseLaneKey(key: string): { name: string; attempt: Lane["attempt"] } {
  const at = key.indexOf(":");
  return { attempt: key.slice(0, at) as Lane["attempt"], name: key.slice(at + 1) };
}
