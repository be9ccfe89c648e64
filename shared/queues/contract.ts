/**
 * The contract for keyed queues. Each queue is a virtual FIFO list of items; one that is empty takes no space. At most one
 * lease holder works on a queue, so that its items are delivered one after the other, in the order in which they were stored.
 * Memory and Redis pass the same suite.
 */
import type { UnreachedSlots } from "../redis/slot-groups.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { StoreState } from "../runtime/store-state.ts";

/** Items of one key stay in order for each service. Names of services contain no colon. */
export interface QueueName {
  readonly service: string;
  /** "": no tenant. */
  readonly tenant: string;
  readonly key: string;
}

export interface NewItem {
  readonly queue: QueueName;
  readonly class: string;
  /** JSON text of one line: everything that the dispatcher needs besides the data. */
  readonly head: string;
  /** JSON text. */
  readonly data: string;
  /** What the item came from: a webhook source or an endpoint. The store counts waiting items by it. Visible ASCII. */
  readonly source?: string;
  /** A second item with this id within {@link dedupeMs} is not stored in the queue. Unique within the deployment. */
  readonly dedupeId?: string;
  /** The `dedupeId` counts in all queues: a repeat may have another tenant or key. */
  readonly dedupesEverywhere?: boolean;
  /** The caller has a worker for it: where nothing waits in the queue, the item is leased to the caller as it is stored. */
  readonly takesLease?: boolean;
}

export type IdentifiedItem = Pick<NewItem, "queue" | "dedupeId" | "dedupesEverywhere">;

/** Names the history of writes of one Redis. The name changes once the Redis was restarted or replaced, and may lack its latest writes. */
export type History = string;

export interface Histories {
  readonly names: readonly History[];
  /** False: not every Redis was reached. */
  readonly isWhole: boolean;
}

/** The Redis of a queue may have lost what was stored there before: store that again first. */
export class LostWrites extends Error {
  constructor() {
    super("a Redis of the queues was restarted or replaced: its latest writes may be lost");
  }
}

export type Enqueued =
  /** `claimed`: by the caller, see {@link NewItem.takesLease} */
  { kind: "stored"; sequence: string; claimed?: Claimed } | { kind: "duplicate" };

/** Work that shares a part of the workers: items of one class for one service, first attempts and retries apart. */
export interface Lane {
  readonly class: string;
  readonly service: string;
  readonly attempt: "first" | "retry";
}

/** Queues of one tenant that wait for a worker. */
export interface ReadyQueues extends Lane {
  readonly slot: number;
  readonly tenant: string;
}

/** Bytes of the items of one queue that are claimed together, about: the item that reaches this is claimed as well. */
export const maxClaimedBytes = 1024 * 1024;

export interface ClaimRequest extends ReadyQueues {
  readonly maxQueues: number;
  /** Of each queue, and no more once they have {@link maxClaimedBytes}. */
  readonly maxItems: number;
}

/** The right to work on a queue, until the lease is settled or expires. */
export interface Lease {
  readonly slot: number;
  /** Names it to the store. */
  readonly text: string;
  readonly queue: QueueName;
  readonly class: string;
  /** The fencing token: 20 digits, grows with each lease of the queue. */
  readonly fence: string;
  /** Items that were claimed with it. */
  readonly items: number;
}

export interface QueuedItem {
  /** 20 digits, grows within the queue. */
  readonly sequence: string;
  readonly class: string;
  readonly source?: string;
  readonly head: string;
  readonly data: string;
}

export interface Claimed {
  readonly lease: Lease;
  /** Attempts at the first item that failed before, including leases that expired. */
  readonly attempts: number;
  /** The sequence of the item before the first one, while the queue has not been empty since. */
  readonly previous: string | undefined;
  /** Unix ms by the store's clock. */
  readonly claimedAt: number;
  readonly items: readonly [QueuedItem, ...QueuedItem[]];
}

export interface ClaimReply {
  readonly claimed: readonly Claimed[];
  /** False: no more queues were ready when the store looked. */
  readonly more: boolean;
}

/** How work on a lease ends. `done`: the number of items, from the first on, that were delivered and leave the queue. */
export type Settlement =
  | { kind: "done"; done: number }
  /** The next item is claimed again after `delayMs`; `attempts` of it have failed. */
  | { kind: "retry"; done: number; attempts: number; delayMs: number }
  /** The item after those leaves the queue, too, and is kept as a dead letter. `failure`: JSON text of one line. */
  | { kind: "dead"; done: number; failure: string }
  /** The queue waits until {@link QueueOperations.release}. */
  | { kind: "park"; done: number };

export interface QueueListener {
  /** A tenant has ready queues in a lane where it had none. */
  onReady(ready: ReadyQueues): void;
  /** News may have been missed: {@link QueueStore.ready} lists everything. */
  onRestored(): void;
}

export interface ReadyList {
  readonly lanes: readonly ReadyQueues[];
  /** False where a slot has more lanes than are listed: at most {@link maxLanesListed} of each. */
  readonly complete: boolean;
  readonly unreached: readonly UnreachedSlots[];
}

export interface QueueStore extends Service {
  readonly state: StoreState;
  /**
   * Resolves once the item is stored. Items of one queue that are given one after the other keep their order: if one is rejected, items given
   * between its call and the rejection are not stored either, so that the writer can give all of them again, in order.
   *
   * @param after histories that the writer knows: the item is refused if the Redis of the queue has another one. Empty or left out: any will do
   * @throws TidegateError `broker_unavailable`, {@link LostWrites}
   */
  enqueue(item: NewItem, after?: readonly History[]): Promise<Enqueued>;
  /** Of every Redis that has queues. For a writer that must know when what it stored before may be lost. */
  histories(): Promise<Histories>;
  /** Whether an item with its `dedupeId` was stored within {@link dedupeMs}. @throws TidegateError `broker_unavailable` */
  wasStored(item: IdentifiedItem): Promise<boolean>;
  /** A reply for each request, in order. A slot that cannot be reached delays and rejects only the replies of its own requests. */
  claim(requests: readonly ClaimRequest[]): readonly Promise<ClaimReply>[];
  /** @returns false: the lease had ended, and nothing was changed. */
  settle(lease: Lease, settlement: Settlement): Promise<boolean>;
  /** Extends leases by another {@link leaseMs} from now. @returns for each whether it is still held, rejecting as {@link claim} does. */
  extend(leases: readonly Lease[]): readonly Promise<boolean>[];
  /**
   * Makes queues ready whose lease has expired or whose next attempt is due. Never rejects.
   * @param slots all of them where it is left out
   * @returns ms until there is more to do; 0: there may be more now; undefined: nothing waits
   */
  promote(
    slots?: readonly number[],
  ): Promise<{ readonly nextMs: number | undefined; readonly unreached: readonly UnreachedSlots[] }>;
  /** Never rejects. @param slots all of them where it is left out */
  ready(slots?: readonly number[]): Promise<ReadyList>;
  /**
   * Items of the tenant in queues of these classes, those in flight included. Slots that cannot be reached are not counted.
   * @throws TidegateError `broker_unavailable` where no slot can be reached
   */
  waiting(tenant: string, classes: readonly string[]): Promise<number>;
  /**
   * Items of the source, counted as {@link waiting} does.
   * @param slots "every": 0 means that there is none
   * @throws TidegateError `broker_unavailable` if no slot can be reached, or, with "every", not all of them
   */
  waitingOfSource(source: string, slots?: "reachable" | "every"): Promise<number>;
  /**
   * Data of the first items of some queues that are ready or leased. The number of queues is bounded; the item that has waited longest is
   * probably among them. Slots that cannot be reached are left out.
   */
  firstWaiting(of: Pick<ReadyQueues, "class" | "service" | "tenant"> & { source: string }): Promise<readonly string[]>;
  listen(listener: QueueListener): void;
}

/** Extended at a third of it, while the work lasts. */
export const leaseMs = 10_000;
export const maxLanesListed = 1_000;
export const dedupeMs = 600_000;

export interface DeadLetter {
  readonly id: string;
  readonly queue: QueueName;
  /** Unix ms, by the store's clock. */
  readonly failedAt: number;
  readonly failure: string;
  readonly item: QueuedItem;
}

export interface DepthFigures {
  /** Without those in flight. */
  readonly waiting: number;
  readonly inFlight: number;
  /** Queues with items. With many tenants, counted in a sample of each slot. */
  readonly queues: number;
  /** Age of the oldest item of that sample, in ms; 0 where nothing waits. */
  readonly oldestMs: number;
}

export interface QueueDepth extends DepthFigures {
  readonly class: string;
  readonly tenant: string;
}

/** If a class has several services, the sample estimates what waits for each. */
export interface ServiceDepth extends DepthFigures {
  readonly class: string;
  readonly service: string;
}

export interface QueueOverview {
  readonly depths: readonly QueueDepth[];
  readonly services: readonly ServiceDepth[];
  readonly deadLetters: number;
  /** What waits in their queues is not counted. */
  readonly unreachedSlots: number;
}

/** Bytes of one page of dead letters, about: the page ends before the letter that exceeds this, but has at least one. */
export const maxDeadLetterBytes = 4 * 1024 * 1024;

/** Oldest first. One that was listed and is gone before it was read is left out. */
export interface DeadLetterPage {
  readonly letters: readonly DeadLetter[];
  /** The next page begins after this id; undefined: there is none. */
  readonly next: string | undefined;
}

/** What operators do with queues. */
export interface QueueOperations {
  /** @throws TidegateError `broker_unavailable` where no slot can be reached */
  depths(): Promise<QueueOverview>;
  /** @param query.limit letters of one page, at least 1; fewer if they are large @param query.after the last id of the page before */
  deadLetters(query: { limit: number; after?: string }): Promise<DeadLetterPage>;
  /** Puts the letter back at the tail of its queue, as a new item. @returns false if there is no such letter. */
  retryDeadLetter(id: string): Promise<boolean>;
  removeDeadLetter(id: string): Promise<boolean>;
  /** Makes a parked or delayed queue ready, with its first attempt. @returns false where it is neither. */
  release(queue: QueueName): Promise<boolean>;
  /** Parked and delayed queues of a key. */
  heldQueues(key: string): Promise<readonly QueueName[]>;
}
