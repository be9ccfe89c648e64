/**
 * The ready queues that one dispatcher knows, and the order in which it claims them: services take turns within a class, and tenants
 * take turns within a class and service, whichever slots their queues are in. First attempts and retries of all classes that want one
 * service have parts of its places. Pure.
 */
import type { ClaimRequest, Lane, ReadyQueues } from "../../shared/queues/contract.ts";
import { LaneTurns } from "./lane-turns.ts";

/** Queues that are claimed in one turn of a slot that is known to have more of them: they share commands of Redis. */
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
  /** All of those workers. Lanes that want one service share its places in this proportion. */
  workers(className: string, attempt: Lane["attempt"]): number;
  /** How much may be claimed for a service now. @param othersWait services that answer soon may have something to do */
  offer(service: string, className: string, attempt: Lane["attempt"], othersWait: boolean): Offer;
  /** Workers that are busy with services that are not known to answer soon. */
  doubtful(className: string, attempt: Lane["attempt"]): number;
}

/** How much may be claimed for a service. */
export interface Offer {
  /** Requests that it can be sent now. */
  readonly capacity: number;
  /** The service gets one more worker only while fewer workers of the class than this are busy with services not known to answer soon. */
  readonly share: number;
  /** Items of one queue that are sent at once. */
  readonly batch: number;
}

export class ReadyLanes {
  /** By class and kind of attempt, then by service, in the order of their turns. */
  readonly #lanes = new Map<string, Map<string, Tenants>>();
  /** False: there may be more ready queues than are known here. */
  complete = true;
  readonly #turns = new LaneTurns();
  readonly #maxEntries: number;
  #entries = 0;

  /** @param maxEntries slots of tenants in lanes that are remembered; what does not fit in is asked for again later */
  constructor(maxEntries = 100_000) {
    this.#maxEntries = maxEntries;
  }

  get size(): number {
    return this.#entries;
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

  /** Whether queues of the class and service are known to wait, for first attempts or for retries. */
  has(className: string, service: string): boolean {
    const hasLane = (attempt: Lane["attempt"]): boolean =>
      this.#lanes.get(laneKey(className, attempt))?.has(service) ?? false;
    return hasLane("first") || hasLane("retry");
  }

  /** A claim has ended. @param more whether the store had more ready queues there. News that came after the claim was chosen keeps the entry */
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
    if (tenants.size === 0) {
      services.delete(service);
      if (!this.#hasLaneFor(service)) this.#turns.forget(service);
    }
    if (services.size === 0) this.#lanes.delete(key);
  }

  #hasLaneFor(service: string): boolean {
    for (const services of this.#lanes.values()) if (services.has(service)) return true;
    return false;
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
    const lanes: OpenLane[] = [];
    for (const [key, services] of this.#lanes) {
      const { name, attempt } = parseLaneKey(key);
      const free = room.free(name, attempt);
      if (free <= 0) continue;
      const doubtful = room.doubtful(name, attempt);
      lanes.push({ key, name, attempt, services, served: new Set(), free, doubtful });
    }
    const choice: Choice = { room, lanes, turns: this.#turns, chosen: new Map(), taken: new Map(), parts: new Map() };
    for (const lane of lanes) serveLane(choice, lane, "part");
    // What a lane leaves of its part is for the others.
    if (choice.parts.size > 0) for (const lane of lanes) serveLane(choice, lane, "rest");
    // The services that a lane has served go behind its others.
    for (const { services, served } of lanes) for (const service of served) rotate(services, service);
    const short: ClaimRequest[] = [];
    const long: ClaimRequest[] = [];
    for (const { request, isLong } of choice.chosen.values()) (isLong ? long : short).push(request);
    return long.length === 0 ? short : [...short, ...long];
  }
}

/** A lane with free workers. */
interface OpenLane {
  readonly key: string;
  readonly name: string;
  readonly attempt: Lane["attempt"];
  readonly services: Map<string, Tenants>;
  /** In their order. */
  readonly served: Set<string>;
  /** Workers. */
  free: number;
  /** @see Room.doubtful */
  doubtful: number;
}

/** What is chosen so far. */
interface Choice {
  readonly room: Room;
  readonly lanes: readonly OpenLane[];
  readonly turns: LaneTurns;
  readonly chosen: Map<Place, { readonly request: ClaimRequest & { maxQueues: number }; readonly isLong: boolean }>;
  /** Queues by service, in all its lanes together. */
  readonly taken: Map<string, number>;
  /** Of services that several lanes have something for, by lane: what is left of its part of their capacity. */
  readonly parts: Map<string, Map<string, number>>;
}

/** `part`: of a service that other lanes want, too, no more than the lane's part. `rest`: only of such services, whatever is left. */
type Round = "part" | "rest";

/** A service in one lane. */
interface Candidate {
  readonly service: string;
  readonly tenants: Tenants;
  readonly offer: Offer;
  /** Queues that it may still get. */
  left: number;
}

function serveLane(choice: Choice, lane: OpenLane, round: Round): void {
  // If a service was held back by its share and workers are left, no other service waits for them.
  if (serve(choice, lane, { round, othersWait: true })) serve(choice, lane, { round, othersWait: false });
}

/** Services get one queue each in turn, until there is no room. @returns whether one got nothing because of its share */
function serve(choice: Choice, lane: OpenLane, { round, othersWait }: { round: Round; othersWait: boolean }): boolean {
  const { room, chosen, taken, parts } = choice;
  const { key, name, attempt } = lane;
  let isAtShare = false;
  const getsOne = (candidate: Candidate): boolean => {
    if (lane.free <= 0 || candidate.left <= 0) return false;
    const { share, batch: maxItems } = candidate.offer;
    if (lane.doubtful >= share) {
      isAtShare = true;
      return false;
    }
    const next = nextPlace(candidate.tenants);
    if (!next) return false;
    const { service } = candidate;
    const { tenant, slot, place, isLong } = next;
    const known = chosen.get(place);
    if (known) known.request.maxQueues++;
    else {
      chosen.set(place, { request: { class: name, service, attempt, tenant, slot, maxQueues: 1, maxItems }, isLong });
    }
    taken.set(service, (taken.get(service) ?? 0) + 1);
    lane.served.add(service);
    const part = round === "part" ? parts.get(service) : undefined;
    part?.set(key, (part.get(key) ?? 0) - 1);
    candidate.left--;
    lane.free--;
    if (share < Infinity) lane.doubtful++;
    return true;
  };
  let served: Candidate[] = [];
  for (const [service, tenants] of lane.services) {
    if (lane.free <= 0) break;
    if (round === "rest" && !parts.has(service)) continue;
    const offer = room.offer(service, name, attempt, othersWait);
    const free = offer.capacity - (taken.get(service) ?? 0);
    if (free <= 0) continue;
    const left = round === "rest" ? free : Math.min(free, partOf(choice, lane, service, offer.capacity));
    if (left <= 0) continue;
    const candidate = { service, tenants, offer, left };
    if (getsOne(candidate)) served.push(candidate);
  }
  while (lane.free > 0 && served.length > 0) served = served.filter(getsOne);
  return isAtShare;
}

/** What is left of the lane's part of a service's capacity. Infinity: no other lane has something for the service. */
function partOf({ room, lanes, turns, parts }: Choice, lane: OpenLane, service: string, capacity: number): number {
  let ofService = parts.get(service);
  if (!ofService) {
    if (lanes.length < 2) return Infinity;
    const wanting = lanes.filter(({ services }) => services.has(service));
    if (wanting.length < 2) return Infinity;
    const weights = new Map(wanting.map(({ key, name, attempt }) => [key, room.workers(name, attempt)]));
    ofService = new Map(turns.divide(service, capacity, weights));
    parts.set(service, ofService);
  }
  return ofService.get(lane.key) ?? 0;
}

/** The tenant whose turn it is, and its next slot. Both go behind the others. `isLong`: the slot has more queues in this turn. */
function nextPlace(tenants: Tenants): { tenant: string; slot: number; place: Place; isLong: boolean } | undefined {
  for (const [tenant, slots] of tenants) {
    const [first] = slots;
    if (!first) continue;
    const [slot, place] = first;
    const isLong = place.left > 1;
    place.isNew = false;
    if (--place.left <= 0) {
      place.left = 1;
      rotate(slots, slot);
    }
    rotate(tenants, tenant);
    return { tenant, slot, place, isLong };
  }
  return undefined;
}

function rotate<Key, Value>(map: Map<Key, Value>, key: Key): void {
  const value = map.get(key);
  if (value === undefined || map.size === 1) return;
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
