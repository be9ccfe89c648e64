/**
 * Tells clients that return to one channel what they missed: from its tail, otherwise by a read of history that all waiting
 * clients share. There is one read at a time.
 */
import type { HistorySlice, Position } from "../../shared/channels/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { type Bridge, bridgeFromReading, type Reading } from "./recovery.ts";
import type { Tail } from "./tail.ts";

export interface CaughtUp {
  /** What the client missed, or why history cannot tell. */
  outcome: Bridge;
  source: "tail" | "history";
}

/** The channel, as far as catching up needs it. */
export interface CatchUpChannel {
  readonly name: string;
  /** Where live deliveries stand; undefined while misaligned, or without a follower. */
  readonly position: Position | undefined;
  /** Resolves once aligned; undefined where the last follower left first. @throws TidegateError without a broker. */
  aligned(): Promise<Position | undefined>;
  /** The node missed publications, or has another epoch than was read. */
  realign(): void;
  /** @param reading undefined: only the position. */
  readForCatchUp(reading: Reading | undefined, at: Position): Promise<HistorySlice>;
  /** Adds what was read to the tail. @param at where the channel stands now. */
  extendTail(at: Position, slice: HistorySlice, reading: Reading): void;
}

interface Waiter {
  from: Position;
  /** Reads that did not answer it. */
  reads: number;
  resolve(caughtUp: CaughtUp): void;
  reject(error: unknown): void;
}

interface Queue {
  waiting: Waiter[];
  /** A read from the oldest waiter on did not reach the present: the next one reads the newest. */
  newest: boolean;
  /** Ends a pause early. */
  wake: () => void;
}

/**
 * Between two reads for clients that all claim to be ahead of the node: only a read that begins after the claim can
 * answer it.
 */
const claimPauseMs = 1_000;
/** More than three are needed only where the broker's answers contradict each other. */
const maxReads = 4;

export class CatchUp {
  readonly #tail: Tail;
  readonly #channel: CatchUpChannel;
  readonly #claimPauses: Map<string, number>;
  readonly #claimPauseMs: number;
  /** While a client waits, or a pause lasts. */
  #queue: Queue | undefined;
  #stopped = false;

  /**
   * @param options.claimPauses channel → end of its pause, by `performance.now()`. Outlives the catch-up: leaving and joining
   * a channel does not shorten its pause.
   */
  constructor(options: {
    tail: Tail;
    channel: CatchUpChannel;
    claimPauses: Map<string, number>;
    claimPauseMs?: number;
  }) {
    this.#tail = options.tail;
    this.#channel = options.channel;
    this.#claimPauses = options.claimPauses;
    this.#claimPauseMs = options.claimPauseMs ?? claimPauseMs;
  }

  /** Ends every pause, also later ones. */
  stop(): void {
    this.#stopped = true;
    this.#queue?.wake();
  }

  /** The channel has advanced: clients that were ahead of it may get their answer. */
  onDelivered(): void {
    this.#queue?.wake();
  }

  /** @throws TidegateError without a broker, or where the channel has no follower left. */
  async from(from: Position): Promise<CaughtUp> {
    const at = await this.#livePosition();
    const outcome = this.#tail.answer(from, at, performance.now());
    if (outcome) return { outcome, source: "tail" };
    const { promise, resolve, reject } = Promise.withResolvers<CaughtUp>();
    const waiter = { from, reads: 0, resolve, reject };
    if (this.#queue) {
      this.#queue.waiting.push(waiter);
      if (!isAhead(from, at)) this.#queue.wake();
    } else {
      this.#queue = { waiting: [waiter], newest: false, wake: () => undefined };
      void this.#serve(this.#queue);
    }
    return promise;
  }

  async #serve(queue: Queue): Promise<void> {
    for (;;) {
      const pausedUntil = this.#claimPauses.get(this.#channel.name) ?? 0;
      const pauseMs = this.#stopped ? 0 : pausedUntil - performance.now();
      if (queue.waiting.length === 0) {
        if (pauseMs <= 0) break;
        await pause(queue, pauseMs);
        continue;
      }
      try {
        const at = await this.#livePosition();
        this.#answerFromTail(queue, at);
        const { waiting } = queue;
        if (waiting.length === 0) continue;
        const onlyClaims = waiting.every(({ from }) => isAhead(from, at));
        if (onlyClaims && pauseMs > 0) {
          await pause(queue, pauseMs);
          continue;
        }
        queue.waiting = [];
        await this.#readFor(waiting, queue, at);
        if (waiting.some(({ from }) => isAhead(from, at))) {
          this.#claimPauses.set(this.#channel.name, performance.now() + this.#claimPauseMs);
        }
      } catch (error) {
        const { waiting } = queue;
        queue.waiting = [];
        for (const waiter of waiting) waiter.reject(error);
      }
    }
    this.#queue = undefined;
  }

  /** Where live deliveries stand now. @throws TidegateError where the channel has no follower left, or without a broker. */
  async #livePosition(): Promise<Position> {
    while (await this.#channel.aligned()) {
      const at = this.#channel.position;
      if (at) return at;
    }
    throw notFollowed();
  }

  #answerFromTail(queue: Queue, at: Position): void {
    const now = performance.now();
    queue.waiting = queue.waiting.filter(({ from, resolve }) => {
      const outcome = this.#tail.answer(from, at, now);
      if (outcome) resolve({ outcome, source: "tail" });
      return !outcome;
    });
  }

  /** One read for all waiters; those that need another one return to the queue. */
  async #readFor(waiters: readonly Waiter[], queue: Queue, at: Position): Promise<void> {
    try {
      const offsets = waiters.filter(({ from }) => from.epoch === at.epoch).map(({ from }) => from.offset);
      const reading = offsets.length > 0 ? this.#reading(queue, offsets) : undefined;
      const slice = await this.#channel.readForCatchUp(reading, at);
      const now = this.#channel.position;
      if (now && now.epoch !== slice.position.epoch) this.#channel.realign();
      else if (now && reading) this.#channel.extendTail(now, slice, reading);
      const isBehind = now?.epoch === slice.position.epoch && now.offset < slice.position.offset;
      // History was read for the epoch of `at`: of another epoch only the position is known.
      const read = at.epoch === slice.position.epoch ? reading : undefined;
      for (const waiter of waiters) {
        const outcome = this.#outcomeOfRead(waiter.from, now, slice, read);
        if (outcome) {
          // A client that cannot be caught up continues where the channel is, not where this node fell behind.
          if (outcome.kind === "broken" && isBehind) this.#channel.realign();
          waiter.resolve({ outcome, source: "history" });
        } else if (waiter.reads++ < maxReads) {
          queue.waiting.push(waiter);
          queue.newest ||= slice.more;
        } else waiter.resolve({ outcome: { kind: "broken", reason: "epoch_changed" }, source: "history" });
      }
    } catch (error) {
      for (const waiter of waiters) waiter.reject(error);
    }
  }

  #reading(queue: Queue, offsets: readonly number[]): Reading {
    if (queue.newest) return { kind: "newest" };
    return this.#tail.reading(offsets.reduce((oldest, offset) => Math.min(oldest, offset)));
  }

  /** @returns undefined where only another read can tell. */
  #outcomeOfRead(
    from: Position,
    now: Position | undefined,
    slice: HistorySlice,
    reading: Reading | undefined,
  ): Bridge | undefined {
    const { epoch } = slice.position;
    if (now?.epoch === epoch && from.epoch !== epoch) this.#tail.refute(from.epoch, now);
    const known = now && this.#tail.answer(from, now, performance.now());
    if (known) return known;
    if (from.epoch !== epoch) return { kind: "broken", reason: "epoch_changed" };
    return reading && bridgeFromReading(from, slice, reading);
  }
}

export function notFollowed(): TidegateError {
  return new TidegateError("not_subscribed", "the subscription was ended before it began");
}

async function pause(queue: Queue, ms: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    queue.wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  queue.wake = () => undefined;
}

/** The node alone cannot tell: another epoch, or an offset that has not arrived here. */
function isAhead(from: Position, at: Position): boolean {
  return from.epoch !== at.epoch || from.offset > at.offset;
}
