/**
 * What one dispatcher knows of ready queues, and whose turn it is: tenants take turns within a class and service, whichever slots
 * their queues are in; services take turns within a class. Pure.
 */
import type { ClaimRequest, Lane, ReadyQueues } from "../../shared/queues/contract.ts";

/** Slots of one tenant with ready queues, in turn. */
type Slots = Set<number>;

class ServiceTurns {
  /** In turn. */
  readonly tenants = new Map<string, Slots>();
}

class LaneTurns {
  /** In turn. */
  readonly services = new Map<string, ServiceTurns>();
}

/** How many queues may be claimed. */
export interface Room {
  /** Free workers of a class for first attempts, or for retries. */
  free(className: string, attempt: Lane["attempt"]): number;
  /** Requests that the service can be sent now. */
  capacity(service: string): number;
  /** Items of one queue that are sent at once. */
  batch(service: string): number;
}

export class ReadyLanes {
  readonly #lanes = new Map<string, LaneTurns>();
  readonly #maxEntries: number;
  #entries = 0;
  #complete = true;

  /** @param maxEntries slots of tenants in lanes that are remembered; what does not fit in is asked for again later */
  constructor(maxEntries = 100_000) {
    this.#maxEntries = maxEntries;
  }

  /** False: there may be more ready queues than are known here. */
  get complete(): boolean {
    return this.#complete;
  }

  set complete(complete: boolean) {
    this.#complete = complete;
  }

  get size(): number {
    return this.#entries;
  }

  add({ class: name, service, attempt, tenant, slot }: ReadyQueues): void {
    const { services } = getOrAdd(this.#lanes, laneKey(name, attempt), () => new LaneTurns());
    const { tenants } = getOrAdd(services, service, () => new ServiceTurns());
    const slots = getOrAdd(tenants, tenant, () => new Set());
    if (slots.has(slot)) return;
    if (this.#entries >= this.#maxEntries) {
      this.#complete = false;
      if (slots.size === 0) tenants.delete(tenant);
      return;
    }
    slots.add(slot);
    this.#entries++;
  }

  /** The store has no more there. */
  remove({ class: name, service, attempt, tenant, slot }: ReadyQueues): void {
    const key = laneKey(name, attempt);
    const lane = this.#lanes.get(key);
    const turns = lane?.services.get(service);
    const slots = turns?.tenants.get(tenant);
    if (!lane || !turns || !slots?.delete(slot)) return;
    this.#entries--;
    if (slots.size === 0) turns.tenants.delete(tenant);
    if (turns.tenants.size === 0) lane.services.delete(service);
    if (lane.services.size === 0) this.#lanes.delete(key);
  }

  /** What to claim next, no more than there is room for. A tenant that is chosen goes behind the others. */
  choose(room: Room): ClaimRequest[] {
    const chosen = new Map<string, { request: ReadyQueues; queues: number }>();
    const taken = new Map<string, number>();
    for (const [key, { services }] of this.#lanes) {
      const { name, attempt } = parseLaneKey(key);
      let free = room.free(name, attempt);
      for (let waiting = [...services.keys()]; free > 0 && waiting.length > 0;) {
        const served: string[] = [];
        for (const service of waiting) {
          if (free <= 0) break;
          if (room.capacity(service) - (taken.get(service) ?? 0) <= 0) continue;
          const place = nextPlace(services.get(service)?.tenants);
          if (!place) continue;
          const request = { class: name, service, attempt, ...place };
          const id = JSON.stringify([key, service, place.tenant, place.slot]);
          const known = chosen.get(id);
          if (known) known.queues++;
          else chosen.set(id, { request, queues: 1 });
          taken.set(service, (taken.get(service) ?? 0) + 1);
          free--;
          served.push(service);
        }
        waiting = served;
      }
      // The services that were served go behind the others.
      for (const service of taken.keys()) rotate(services, service);
    }
    return [...chosen.values()].map(({ request, queues }) => ({
      ...request,
      maxQueues: queues,
      maxItems: room.batch(request.service),
    }));
  }
}

/** The tenant whose turn it is, and its next slot: both go to the end of their line. */
function nextPlace(tenants: Map<string, Slots> | undefined): { tenant: string; slot: number } | undefined {
  for (const [tenant, slots] of tenants ?? []) {
    const [slot] = slots;
    if (slot === undefined) continue;
    slots.delete(slot);
    slots.add(slot);
    tenants?.delete(tenant);
    tenants?.set(tenant, slots);
    return { tenant, slot };
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
