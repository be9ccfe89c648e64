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
  /** "": the one tenant of a deployment without tenants. */
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
  /** The webhook source that the item came from: what waits is counted by it. Visible ASCII. */
  readonly source?: string;
  /** A second item with this id within {@link dedupeMs} is not stored in the queue. Unique within the deployment. */
  readonly dedupeId?: string;
  /** Nor in any other queue: a repeat may have another tenant or key. */
  readonly dedupesEverywhere?: boolean;
}

export type IdentifiedItem = Pick<NewItem, "queue" | "dedupeId" | "dedupesEverywhere">;

/** Names what one Redis has stored so far: another one once it was restarted or replaced, and may lack its latest writes. */
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

export type Enqueued = { kind: "stored"; sequence: string } | { kind: "duplicate" };

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

/** About, of the items of one queue that are claimed together. An item that is larger is claimed, too. */
export const maxClaimedBytes = 1024 * 1024;

export interface ClaimRequest extends ReadyQueues {
  readonly maxQueues: number;
  /** Of each queue, and no more once they have {@link maxClaimedBytes}. */
  readonly maxItems: number;
}

/** The right to work on a queue, until it is settled, extended no more, or expires. */
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
  /** Of the first item, that failed before; leases that expired count. */
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

/** How work on a lease ends. `done`: items from the first on that leave the queue. */
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
  /** Such news may have been missed: {@link QueueStore.ready} tells everything. */
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
   * Stored when it resolves. Items of one queue that are given one after the other keep their order: where one is rejected, those given after it until
   * then are not stored either, so that all may be given again, in order.
   *
   * @param after histories that the writer knows: the item is refused where the Redis of the queue has another one
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
  /** For another {@link leaseMs}. @returns for each, as of {@link claim}, whether it still holds. */
  extend(leases: readonly Lease[]): readonly Promise<boolean>[];
  /**
   * Makes queues ready whose lease has expired or whose next attempt is due. Never rejects.
   * @param slots all of them where it is left out
   * @returns ms until there is more to do; undefined: nothing waits
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
   * Items of the source, as of {@link waiting}.
   * @param slots "every": 0 means that there is none
   * @throws TidegateError `broker_unavailable` where no slot can be reached, or not every slot that is to be counted
   */
  waitingOfSource(source: string, slots?: "reachable" | "every"): Promise<number>;
  /**
   * Data of the first items of some queues that are ready or leased: a bounded look, which probably finds the item that has waited for longest.
   * Slots that cannot be reached are left out.
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
  /** Queues with items. At a great number of tenants a sample of each slot counts. */
  readonly queues: number;
  /** Age of the oldest item of that sample, in ms; 0 where nothing waits. */
  readonly oldestMs: number;
}

export interface QueueDepth extends DepthFigures {
  readonly class: string;
  readonly tenant: string;
}

/** Where a class has several services, what waits of each is estimated by that sample. */
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

/** The data of one page, about: it ends with the dead letter before the one that exceeds this. */
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
  /** @param query.limit of one page, which ends earlier where its letters are large; at least 1 @param query.after the id of the last one that is known */
  deadLetters(query: { limit: number; after?: string }): Promise<DeadLetterPage>;
  /** Back to the tail of its queue, as a new item. @returns false where there is none. */
  retryDeadLetter(id: string): Promise<boolean>;
  removeDeadLetter(id: string): Promise<boolean>;
  /** Makes a parked or delayed queue ready, with its first attempt. @returns false where it is neither. */
  release(queue: QueueName): Promise<boolean>;
  /** Parked and delayed queues of a key. */
  heldQueues(key: string): Promise<readonly QueueName[]>;
}
