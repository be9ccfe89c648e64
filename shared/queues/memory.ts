import {
  type Claimed,
  type ClaimReply,
  type ClaimRequest,
  type DeadLetter,
  type DeadLetterPage,
  dedupeMs,
  type Enqueued,
  type IdentifiedItem,
  type Histories,
  type Lease,
  leaseMs,
  maxClaimedBytes,
  type NewItem,
  type QueuedItem,
  type QueueListener,
  type QueueName,
  type QueueOperations,
  type QueueOverview,
  type QueueStore,
  type ReadyList,
  type ReadyQueues,
  type Settlement,
} from "./contract.ts";
import { parseHead } from "./item-head.ts";
import { comparePlaces, deadLetterId, pageLength, parseDeadLetterId } from "./dead-letter-places.ts";
import { depthsOf } from "./depths.ts";
import { laneText, paddedNumber, parseLane, queueText, slotOfQueue } from "./keys.ts";

interface Queue {
  readonly name: QueueName;
  readonly slot: number;
  readonly items: QueuedItem[];
  attempts: number;
  previous: string | undefined;
  state: "ready" | "leased" | "delayed" | "parked";
}

/** The queues of a single process: nothing outlives it. */
export class MemoryQueueStore implements QueueStore, QueueOperations {
  readonly state = "ok";
  readonly #queues = new Map<string, Queue>();
  /** Source → its items. */
  readonly #sources = new Map<string, number>();
  /** Slot and lane → queues in order. */
  readonly #ready = new Map<string, Queue[]>();
  /** By text. `endsAt` is by `Date.now()`. */
  readonly #leases = new Map<string, { queue: Queue; lease: Lease; endsAt: number }>();
  readonly #delays = new Map<Queue, number>();
  /** Insertion order is expiry order. */
  readonly #seenIds = new Map<string, number>();
  readonly #deadLetters = new Map<string, DeadLetter>();
  readonly #listeners: QueueListener[] = [];
  readonly #leaseMs: number;
  #number = 0;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(options: { leaseMs?: number } = {}) {
    this.#leaseMs = options.leaseMs ?? leaseMs;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  async histories(): Promise<Histories> {
    return { names: [], isWhole: true };
  }

  async enqueue(item: NewItem): Promise<Enqueued> {
    const { queue: name, class: itemClass, source, head, data, takesLease = false } = item;
    const now = Date.now();
    this.#forgetIds(now);
    const seen = seenId(item);
    if (seen !== undefined) {
      if (this.#seenIds.has(seen)) return { kind: "duplicate" };
      this.#seenIds.set(seen, now + dedupeMs);
    }
    const sequence = this.#nextNumber();
    const stored = { sequence, class: itemClass, ...(source !== undefined && { source }), head, data };
    const queue = this.#store(name, stored, takesLease);
    if (!takesLease || !queue) return { kind: "stored", sequence };
    return { kind: "stored", sequence, claimed: this.#lease(queue, { class: itemClass, maxItems: 1 }) };
  }

  async wasStored(item: IdentifiedItem): Promise<boolean> {
    this.#forgetIds(Date.now());
    const seen = seenId(item);
    return seen !== undefined && this.#seenIds.has(seen);
  }

  claim(requests: readonly ClaimRequest[]): readonly Promise<ClaimReply>[] {
    return requests.map(async (request) => {
      const lane = laneAt(request);
      const ready = this.#ready.get(lane) ?? [];
      const queues = ready.splice(0, request.maxQueues);
      const more = ready.length > 0;
      if (!more) this.#ready.delete(lane);
      return { more, claimed: queues.map((queue) => this.#lease(queue, request)) };
    });
  }

  async settle(lease: Lease, settlement: Settlement): Promise<boolean> {
    const held = this.#leases.get(lease.text);
    if (!held) return false;
    this.#leases.delete(lease.text);
    const { queue } = held;
    const leaving = settlement.kind === "dead" ? settlement.done + 1 : settlement.done;
    const left = queue.items.splice(0, leaving);
    for (const { source } of left) this.#countSource(source, -1);
    const last = left.at(-1);
    queue.previous = last?.sequence ?? queue.previous;
    switch (settlement.kind) {
      case "done":
        this.#advance(queue);
        break;
      case "retry":
        queue.attempts = settlement.attempts;
        queue.state = "delayed";
        this.#delays.set(queue, Date.now() + settlement.delayMs);
        break;
      case "dead":
        if (last) this.#bury(queue, last, settlement.failure);
        this.#advance(queue);
        break;
      case "park":
        queue.attempts = 0;
        queue.state = "parked";
    }
    return true;
  }

  extend(leases: readonly Lease[]): readonly Promise<boolean>[] {
    return leases.map(async (lease) => {
      const held = this.#leases.get(lease.text);
      if (held) held.endsAt = Date.now() + this.#leaseMs;
      return held !== undefined;
    });
  }

  async promote(slots?: readonly number[]): Promise<{ nextMs: number | undefined; unreached: [] }> {
    const now = Date.now();
    let nextMs: number | undefined;
    const isDue = ({ slot }: Queue, at: number): boolean => {
      if (slots && !slots.includes(slot)) return false;
      if (at <= now) return true;
      nextMs = Math.min(nextMs ?? Infinity, at - now);
      return false;
    };
    for (const [text, { queue, endsAt }] of this.#leases) {
      if (!isDue(queue, endsAt)) continue;
      this.#leases.delete(text);
      queue.attempts++;
      this.#makeReady(queue, { attempt: "retry", front: true });
    }
    for (const [queue, dueAt] of this.#delays) {
      if (!isDue(queue, dueAt)) continue;
      this.#delays.delete(queue);
      this.#makeReady(queue, { attempt: "retry" });
    }
    return { nextMs, unreached: [] };
  }

  async ready(slots?: readonly number[]): Promise<ReadyList> {
    const lanes = [...this.#ready.keys()].map((text) => {
      const at = text.indexOf(" ");
      return parseLane(Number(text.slice(0, at)), text.slice(at + 1));
    });
    const isAsked = ({ slot }: ReadyQueues): boolean => slots?.includes(slot) ?? true;
    return { lanes: lanes.filter(isAsked), complete: true, unreached: [] };
  }

  async waiting(tenant: string, classes: readonly string[]): Promise<number> {
    let count = 0;
    for (const { name, items } of this.#queues.values()) {
      if (name.tenant === tenant) count += items.filter((item) => classes.includes(item.class)).length;
    }
    return count;
  }

  async waitingOfSource(source: string): Promise<number> {
    return this.#sources.get(source) ?? 0;
  }

  async firstWaiting({ service, source }: Parameters<QueueStore["firstWaiting"]>[0]): Promise<readonly string[]> {
    return [...this.#queues.values()].flatMap(({ name, state, items: [first] }) => {
      const isOfThese = name.service === service && first?.source === source;
      return isOfThese && (state === "ready" || state === "leased") ? first.data : [];
    });
  }

  listen(listener: QueueListener): void {
    this.#listeners.push(listener);
  }

  async depths(): Promise<QueueOverview> {
    const counts = new Map<string, { class: string; tenant: string; items: number }>();
    for (const { name, items } of this.#queues.values()) {
      for (const item of items) {
        const key = JSON.stringify([item.class, name.tenant]);
        const count = counts.get(key) ?? { class: item.class, tenant: name.tenant, items: 0 };
        count.items++;
        counts.set(key, count);
      }
    }
    const leases = new Map([...this.#leases.values()].map(({ queue, lease }) => [queue, lease]));
    const looks = [...this.#queues.values()].flatMap((queue) => {
      const [head] = queue.items;
      if (!head) return [];
      const { service, tenant } = queue.name;
      const storedAt = parseHead(head.head)?.at;
      const oldestMs = storedAt === undefined ? 0 : Math.max(0, Date.now() - storedAt);
      const inFlight = leases.get(queue)?.items ?? 0;
      return [{ class: head.class, service, tenant, queues: 1, items: queue.items.length, inFlight, oldestMs }];
    });
    const deadLetters = this.#deadLetters.size;
    return { ...depthsOf([...counts.values()], looks), deadLetters, unreachedSlots: 0 };
  }

  async deadLetters({ limit, after }: { limit: number; after?: string }): Promise<DeadLetterPage> {
    const last = after === undefined ? undefined : parseDeadLetterId(after);
    const found = [...this.#deadLetters.values()]
      .map((letter) => ({
        letter,
        place: { ...letter, slot: slotOfQueue(letter.queue), sequence: letter.item.sequence },
      }))
      .filter(({ place }) => !last || comparePlaces(place, last) > 0)
      .sort((one, other) => comparePlaces(one.place, other.place))
      .map(({ letter }) => letter);
    const sizes = found.slice(0, limit + 1).map(({ item, failure }) => Buffer.byteLength(item.data) + failure.length);
    const letters = found.slice(0, pageLength(sizes, limit));
    return { letters, next: letters.length < found.length ? letters.at(-1)?.id : undefined };
  }

  async retryDeadLetter(id: string): Promise<boolean> {
    const letter = this.#deadLetters.get(id);
    if (!letter) return false;
    this.#deadLetters.delete(id);
    this.#store(letter.queue, { ...letter.item, sequence: this.#nextNumber() });
    return true;
  }

  async removeDeadLetter(id: string): Promise<boolean> {
    return this.#deadLetters.delete(id);
  }

  async release(name: QueueName): Promise<boolean> {
    const queue = this.#queues.get(queueText(name));
    if (queue?.state !== "parked" && queue?.state !== "delayed") return false;
    this.#delays.delete(queue);
    queue.attempts = 0;
    this.#makeReady(queue, { attempt: "first" });
    return true;
  }

  async heldQueues(key: string): Promise<readonly QueueName[]> {
    return [...this.#queues.values()]
      .filter(({ name, state }) => name.key === key && (state === "parked" || state === "delayed"))
      .map(({ name }) => name);
  }

  #nextNumber(): string {
    return paddedNumber(++this.#number);
  }

  /** @param isLeased the caller leases the queue where it is new @returns the queue where it is new */
  #store(name: QueueName, item: QueuedItem, isLeased = false): Queue | undefined {
    this.#countSource(item.source, 1);
    const text = queueText(name);
    const known = this.#queues.get(text);
    if (known) {
      known.items.push(item);
      return undefined;
    }
    const slot = slotOfQueue(name);
    const queue: Queue = { name, slot, items: [item], attempts: 0, previous: undefined, state: "ready" };
    this.#queues.set(text, queue);
    if (!isLeased) this.#makeReady(queue, { attempt: "first" });
    return queue;
  }

  #countSource(source: string | undefined, by: 1 | -1): void {
    if (source === undefined) return;
    const count = (this.#sources.get(source) ?? 0) + by;
    if (count === 0) this.#sources.delete(source);
    else this.#sources.set(source, count);
  }

  #makeReady(queue: Queue, { attempt, front = false }: { attempt: ReadyQueues["attempt"]; front?: boolean }): void {
    const [head] = queue.items;
    queue.state = "ready";
    const { service, tenant } = queue.name;
    const news = { slot: queue.slot, class: head?.class ?? "", service, attempt, tenant };
    const lane = laneAt(news);
    const ready = this.#ready.get(lane);
    if (ready && front) ready.unshift(queue);
    else if (ready) ready.push(queue);
    else {
      this.#ready.set(lane, [queue]);
      for (const listener of this.#listeners) listener.onReady(news);
    }
  }

  #lease(queue: Queue, request: Pick<ClaimRequest, "class" | "maxItems">): Claimed {
    const items = firstOf(queue.items, request.maxItems);
    const { slot, name } = queue;
    const fence = this.#nextNumber();
    const lease = { slot, text: fence, queue: name, class: request.class, fence, items: items.length };
    queue.state = "leased";
    const claimedAt = Date.now();
    this.#leases.set(lease.text, { queue, lease, endsAt: claimedAt + this.#leaseMs });
    return { lease, attempts: queue.attempts, previous: queue.previous, claimedAt, items };
  }

  /** Makes the queue ready for a first attempt at its next item, or removes it. */
  #advance(queue: Queue): void {
    queue.attempts = 0;
    if (queue.items.length > 0) this.#makeReady(queue, { attempt: "first" });
    else this.#queues.delete(queueText(queue.name));
  }

  #bury(queue: Queue, item: QueuedItem, failure: string): void {
    const failedAt = Date.now();
    const id = deadLetterId({ failedAt, slot: queue.slot, sequence: item.sequence });
    this.#deadLetters.set(id, { id, queue: queue.name, failedAt, failure, item });
  }

  #forgetIds(now: number): void {
    for (const [id, expiresAt] of this.#seenIds) {
      if (expiresAt > now) return;
      this.#seenIds.delete(id);
    }
  }
}

function firstOf(items: readonly QueuedItem[], most: number): [QueuedItem, ...QueuedItem[]] {
  let count = 0;
  for (let bytes = 0; count < most && bytes < maxClaimedBytes; count++) {
    const { head, data } = items[count] ?? { head: "", data: "" };
    // Redis keeps a line feed between them.
    bytes += Buffer.byteLength(head) + 1 + Buffer.byteLength(data);
  }
  return items.slice(0, count) as [QueuedItem, ...QueuedItem[]];
}

function seenId({ queue, dedupeId, dedupesEverywhere = false }: IdentifiedItem): string | undefined {
  if (dedupeId === undefined) return undefined;
  return dedupesEverywhere ? dedupeId : `${slotOfQueue(queue)} ${dedupeId}`;
}

function laneAt(ready: ReadyQueues): string {
  return `${ready.slot} ${laneText(ready)}`;
}
