/**
 * What returning clients have missed: from the tail, else by one read of history at a time for each channel, whatever
 * the number of those that wait for it.
 */
import type { HistorySlice, Position } from "../../shared/channels/contract.ts";
import { type Bridge, bridgeFromReading, type Reading } from "./recovery.ts";
import type { Tails } from "./tails.ts";

export interface CaughtUp {
  way: Bridge;
  source: "tail" | "history";
}

/** Of one channel, as the catching up needs it. */
export interface CatchUpChannel {
  /** Where the hub stands; undefined while it aligns, or where nobody follows the channel. */
  position(): Position | undefined;
  /** Resolves once the hub stands somewhere. @throws TidegateError without a broker or a follower. */
  aligned(): Promise<Position>;
  /** The hub has been left behind, or stands in another epoch than was read: it must align anew. */
  misalign(): void;
  read(reading: Reading | undefined, epoch: string, reaching: Position): Promise<HistorySlice>;
  /** What was read belongs into the tail. */
  extend(at: Position, slice: HistorySlice, reading: Reading): void;
}

interface Waiter {
  from: Position;
  /** Those that did not tell. */
  reads: number;
  resolve(caughtUp: CaughtUp): void;
  reject(error: unknown): void;
}

interface Queue {
  waiting: Waiter[];
  /** A read from the oldest of them did not reach the present: the next one is of the newest. */
  newest: boolean;
  /** Ends a pause early. */
  wake: () => void;
}

/**
 * Between two reads for those alone that claim to be further than the node: each can only be told by a read that began
 * after it asked.
 */
const claimPauseMs = 1_000;
/** Only where the broker's answers contradict each other it takes more than three. */
const maxReads = 4;

export class CatchUp {
  readonly #tails: Tails;
  readonly #channel: (name: string) => CatchUpChannel;
  readonly #claimPauseMs: number;
  readonly #queues = new Map<string, Queue>();
  #stopped = false;

  constructor(options: { tails: Tails; channel: (name: string) => CatchUpChannel; claimPauseMs?: number }) {
    this.#tails = options.tails;
    this.#channel = options.channel;
    this.#claimPauseMs = options.claimPauseMs ?? claimPauseMs;
  }

  /** Lets nobody wait any longer than it must. */
  stop(): void {
    this.#stopped = true;
    for (const queue of this.#queues.values()) queue.wake();
  }

  /** The hub has come further: those that were ahead of it may be told. */
  onDelivered(name: string): void {
    this.#queues.get(name)?.wake();
  }

  async from(name: string, from: Position): Promise<CaughtUp> {
    const at = await standing(this.#channel(name));
    const way = this.#tails.answer(name, from, at, Date.now());
    if (way) return { way, source: "tail" };
    const { promise, resolve, reject } = Promise.withResolvers<CaughtUp>();
    const waiter = { from, reads: 0, resolve, reject };
    const queue = this.#queues.get(name);
    if (queue) {
      queue.waiting.push(waiter);
      if (!isBeyond(from, at)) queue.wake();
    } else {
      const begun: Queue = { waiting: [waiter], newest: false, wake: () => undefined };
      this.#queues.set(name, begun);
      void this.#serve(name, begun);
    }
    return promise;
  }

  async #serve(name: string, queue: Queue): Promise<void> {
    const channel = this.#channel(name);
    let pauseUntil = 0;
    for (;;) {
      const pauseMs = this.#stopped ? 0 : pauseUntil - performance.now();
      if (queue.waiting.length === 0) {
        if (pauseMs <= 0) break;
        await this.#pause(queue, pauseMs);
        continue;
      }
      try {
        const at = await standing(channel);
        this.#answerFromTail(name, queue, at);
        const { waiting } = queue;
        if (waiting.length === 0) continue;
        const onlyClaims = waiting.every(({ from }) => isBeyond(from, at));
        if (onlyClaims && pauseMs > 0) {
          await this.#pause(queue, pauseMs);
          continue;
        }
        queue.waiting = [];
        await this.#readFor(name, channel, at, waiting, queue);
        if (waiting.some(({ from }) => isBeyond(from, at))) pauseUntil = performance.now() + this.#claimPauseMs;
      } catch (error) {
        const { waiting } = queue;
        queue.waiting = [];
        for (const waiter of waiting) waiter.reject(error);
      }
    }
    this.#queues.delete(name);
  }

  #answerFromTail(name: string, queue: Queue, at: Position): void {
    const now = Date.now();
    queue.waiting = queue.waiting.filter(({ from, resolve }) => {
      const way = this.#tails.answer(name, from, at, now);
      if (way) resolve({ way, source: "tail" });
      return !way;
    });
  }

  /** One read for all of them; who needs another one goes back to the queue. */
  async #readFor(
    name: string,
    channel: CatchUpChannel,
    at: Position,
    waiters: readonly Waiter[],
    queue: Queue,
  ): Promise<void> {
    try {
      const offsets = waiters.filter(({ from }) => from.epoch === at.epoch).map(({ from }) => from.offset);
      const reading = offsets.length > 0 ? this.#reading(name, queue, offsets) : undefined;
      const slice = await channel.read(reading, at.epoch, at);
      const now = channel.position();
      if (now && now.epoch !== slice.position.epoch) channel.misalign();
      else if (now && reading) channel.extend(now, slice, reading);
      const isBehind = now?.epoch === slice.position.epoch && now.offset < slice.position.offset;
      for (const waiter of waiters) {
        const { from } = waiter;
        // Read under the epoch that the hub stood in: of another one only the position is known.
        const told = at.epoch === slice.position.epoch ? reading : undefined;
        const way = this.#told(name, from, now, slice, told);
        if (way) {
          // Who cannot be caught up goes on from where the channel is, not from where the node has been left behind.
          if (way.kind === "broken" && isBehind) channel.misalign();
          waiter.resolve({ way, source: "history" });
        } else if (waiter.reads++ < maxReads) {
          queue.waiting.push(waiter);
          queue.newest ||= slice.more;
        } else waiter.resolve({ way: { kind: "broken", reason: "epoch_changed" }, source: "history" });
      }
    } catch (error) {
      for (const waiter of waiters) waiter.reject(error);
    }
  }

  #reading(name: string, queue: Queue, offsets: readonly number[]): Reading {
    if (queue.newest) return { kind: "newest" };
    return this.#tails.reading(
      name,
      offsets.reduce((oldest, offset) => Math.min(oldest, offset)),
    );
  }

  /** What a read tells one of those that it was made for; undefined: it has to be another one. */
  #told(
    name: string,
    from: Position,
    now: Position | undefined,
    slice: HistorySlice,
    reading: Reading | undefined,
  ): Bridge | undefined {
    const { epoch } = slice.position;
    if (now?.epoch === epoch && from.epoch !== epoch) this.#tails.refute(name, from.epoch, now);
    const known = now && this.#tails.answer(name, from, now, Date.now());
    if (known) return known;
    if (from.epoch !== epoch) return { kind: "broken", reason: "epoch_changed" };
    return reading && bridgeFromReading(from, slice, reading);
  }

  async #pause(queue: Queue, ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      queue.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    queue.wake = () => undefined;
  }
}

/** Where the hub stands at this very moment. */
async function standing(channel: CatchUpChannel): Promise<Position> {
  for (;;) {
    await channel.aligned();
    const at = channel.position();
    if (at) return at;
  }
}

/** The node cannot tell by itself: another epoch, or an offset that has not arrived here. */
function isBeyond(from: Position, at: Position): boolean {
  return from.epoch !== at.epoch || from.offset > at.offset;
}
