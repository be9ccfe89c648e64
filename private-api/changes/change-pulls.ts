/** Reads the change log for services: all slots in turn, from one cursor to the next. */
import type { Change, ChangeLog, Gap, Place, ReadFrom, SlotRead } from "../../shared/changes/contract.ts";
import { maxReplayBytes } from "../../shared/protocol/limits.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { type TableRows, withTableRows } from "./table-rows.ts";
import type { ChannelFilter } from "./channel-filter.ts";
import { ChangeWaiters } from "./change-waiters.ts";
import { placeIn, type PullCursor } from "./pull-cursor.ts";

/** Most reads of the log in a row, while they find no change that the pull asks for. */
const maxSteps = 8;
/** Shortest time between two calls of {@link ChangeLog.keep} for one caller. */
const keepEveryMs = 60_000;

/** Where a pull without the cursor of an earlier one begins. */
export type PullStart = { kind: "start" } | { kind: "end" } | { kind: "time"; at: number };

export interface PullRequest {
  readonly filter: ChannelFilter;
  readonly from: PullStart | { kind: "cursor"; cursor: PullCursor };
  readonly limit: number;
  readonly waitMs: number;
  /** Names the live cursor of the pull. */
  readonly caller: string;
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal;
}

export type PulledItem = { kind: "change"; change: Change } | { kind: "gap"; channel?: string; gap: Gap };

interface Step {
  readonly items: readonly PulledItem[];
  readonly cursor: PullCursor;
  /** Changes may follow at once. */
  readonly more: boolean;
}

export interface Pulled extends Step {
  /** The pull found no items at first, and waited for changes. */
  readonly hasWaited: boolean;
}

export class ChangePulls {
  readonly #log: ChangeLog;
  readonly #tables: TableRows;
  readonly #logger: Logger;
  readonly #waiters: ChangeWaiters;
  /** By caller: tokens are few. */
  readonly #keptAt = new Map<string, number>();

  constructor({ log, tables, logger }: { log: ChangeLog; tables: TableRows; logger: Logger }) {
    this.#log = log;
    this.#tables = tables;
    this.#logger = logger;
    this.#waiters = new ChangeWaiters(log);
  }

  /** Pulls that wait for a change. */
  get waiting(): number {
    return this.#waiters.waiting;
  }

  async start(): Promise<void> {}

  /** Answers waiting pulls. */
  async stop(): Promise<void> {
    this.#waiters.stop();
  }

  /** @throws TidegateError `broker_unavailable`, `upstream_unavailable` of a table, or `rate_limited` where too many pulls wait. */
  async pull(request: PullRequest): Promise<Pulled> {
    const { from, waitMs, filter, signal } = request;
    if (from.kind === "cursor") this.#keep(request.caller, from.cursor);
    const wait = waitMs > 0 ? await this.#waiters.listen(filter.patterns) : undefined;
    try {
      let step = await this.#begin(request);
      if (from.kind !== "cursor") this.#keep(request.caller, step.cursor);
      const deadline = performance.now() + waitMs;
      let hasWaited = false;
      while (wait && step.items.length === 0 && !step.more) {
        hasWaited = true;
        const leftMs = deadline - performance.now();
        const news = leftMs > 0 ? await wait.wait(leftMs, signal) : new Set<number>();
        // Reads all slots a last time, so that the cursor moves past changes of other channels.
        const slots = news === "all" || news.size === 0 ? filter.slots : [...news];
        step = await this.#read(request, step.cursor, slots);
        if (news !== "all" && news.size === 0) break;
      }
      return { ...step, hasWaited };
    } finally {
      wait?.end();
    }
  }

  async #begin(request: PullRequest): Promise<Step> {
    const { from, filter } = request;
    if (from.kind === "cursor") return this.#read(request, from.cursor, filter.slots);
    const since = from.kind === "start" ? 0 : from.kind === "time" ? from.at : Date.now();
    const cursor = { since, places: new Map<number, Place>(), turn: filter.slots[0] ?? 0 };
    return from.kind === "end"
      ? this.#read(request, cursor, filter.slots, { kind: "end" })
      : this.#read(request, cursor, filter.slots);
  }

  /** @param from where the read begins in every slot; by default at the cursor. */
  async #read(request: PullRequest, begun: PullCursor, slots: readonly number[], from?: ReadFrom): Promise<Step> {
    const { filter, limit } = request;
    let cursor = begun;
    let more = true;
    for (let steps = 0; steps < maxSteps && more; steps++) {
      const order = inTurn(slots, cursor.turn);
      const queries = order.map((slot) => ({ slot, from: from ?? placeIn(cursor, slot) }));
      const bounds = { limit, maxBytes: maxReplayBytes, channels: filter, withRows: true };
      const reads = await withTableRows(await this.#log.read(queries, bounds), this.#tables, bounds);
      const places = new Map(cursor.places);
      for (const { slot, place } of reads) places.set(slot, place);
      more = reads.length < order.length || reads.some(({ place, newest }) => place !== newest);
      const turn = more ? nextTurn(order, reads) : cursor.turn;
      cursor = { since: cursor.since, places, turn };
      const items = reads.flatMap(({ slot, gap, changes }) => [
        ...(gap ? gapItems(filter, slot, gap) : []),
        ...changes.map((change) => ({ kind: "change", change }) as const),
      ]);
      if (items.length > 0) return { items: withOneGap(items), cursor, more };
    }
    return { items: [], cursor, more };
  }

  /** Keeps what follows the caller's cursor, up to the caps. Not awaited: the pull is answered even if the store refuses writes. */
  #keep(caller: string, { places }: PullCursor): void {
    const now = performance.now();
    if (now - (this.#keptAt.get(caller) ?? -Infinity) < keepEveryMs) return;
    this.#keptAt.set(caller, now);
    const kept = [...places].map(([slot, place]) => ({ slot, place }));
    this.#log.keep(`pull:${caller}`, kept).catch((error: unknown) => {
      this.#logger.debug({ err: error, caller }, "keeping what a cursor needs failed");
    });
  }
}

/** The slots in ascending order, beginning with `turn` or the next one after it, then from the first one on. */
function inTurn(slots: readonly number[], turn: number): number[] {
  return [...slots.filter((slot) => slot >= turn), ...slots.filter((slot) => slot < turn)];
}

/** The slot at which the next read begins: after the one that used up the bounds, so that a busy slot does not keep the others waiting. */
function nextTurn(order: readonly number[], reads: readonly SlotRead[]): number {
  const looked = new Set(reads.map(({ slot }) => slot));
  const first = order.findIndex((slot) => looked.has(slot));
  const leftOut = order.find((slot, index) => index > first && !looked.has(slot));
  if (leftOut !== undefined) return leftOut;
  const busy = reads.find(({ place, newest }) => place !== newest);
  return order[(busy ? order.indexOf(busy.slot) + 1 : 0) % order.length] ?? 0;
}

/** One gap item for each channel of the slot that is named, and one without a channel if there are prefixes. */
function gapItems({ names, prefixes }: ChannelFilter, slot: number, gap: Gap): PulledItem[] {
  const named = names.filter((name) => slotOf(name) === slot);
  const items = named.map((channel) => ({ kind: "gap", channel, gap }) as const);
  return prefixes.length > 0 ? [...items, { kind: "gap", gap }] : items;
}

/** Gaps of several slots that name no channel become one, at the place of the first. */
function withOneGap(items: readonly PulledItem[]): PulledItem[] {
  const isUnnamed = (item: PulledItem): boolean => item.kind === "gap" && item.channel === undefined;
  const gaps = items.flatMap((item) => (item.kind === "gap" && item.channel === undefined ? [item.gap] : []));
  if (gaps.length < 2) return [...items];
  const from = Math.min(...gaps.map((gap) => gap.from));
  const to = Math.max(...gaps.map((gap) => gap.to));
  const first = items.findIndex(isUnnamed);
  const merged: PulledItem = { kind: "gap", gap: { from, to } };
  return items
    .map((item, index) => (index === first ? merged : item))
    .filter((item) => item === merged || !isUnnamed(item));
}
