/**
 * The contract of the change log: for namespaces with `changes: true`, the script that publishes also appends to the log of the
 * channel's slot. So followers, webhooks and pulls see one order. Memory and Redis pass the same suite
 * (test/contract/change-log-suite.ts).
 *
 * Every implementation MUST
 * - append with the publish, in one step: a publication that is stored is in the log, once, and one that is refused, ephemeral or
 *   a duplicate is not;
 * - keep the order of the slot, and give no place twice, also where the store lost its latest writes;
 * - report a gap to a reader whose next changes are gone, or that has seen changes which the store has lost;
 * - keep everything of a slot under names that begin with its tag, so that the slot can move to another Redis. Places stay valid.
 */
import type { Service } from "../runtime/lifecycle.ts";
import type { StoreState } from "../runtime/store-state.ts";

/**
 * Names a change in its slot's log: `time-number`, the Unix ms at which it was appended, and how many were before it, itself included.
 * Grows in both parts: places.ts compares places and says how many changes are between two. Places of different slots are not comparable.
 */
export type Place = string;

/** The place before every log. */
export const placeBeforeAll: Place = "0-0";

export interface Change {
  readonly place: Place;
  /** When it was published: Unix ms by the store's clock. Never decreases within a slot. */
  readonly at: number;
  readonly channel: string;
  readonly epoch: string;
  readonly offset: number;
  /** Offset of the channel's publication before: `offset - 1`, except after a jump. */
  readonly prev: number;
  readonly event: string;
  /** JSON text. */
  readonly data: string;
}

/** Where a read begins. */
export type ReadFrom =
  /** The oldest change that is kept. */
  | { readonly kind: "start" }
  /** After the newest change: the read has no changes, only the place. */
  | { readonly kind: "end" }
  /** Changes of that time, in Unix ms, and later ones. */
  | { readonly kind: "time"; readonly at: number }
  /** A place that an earlier read returned. */
  | { readonly kind: "after"; readonly place: Place };

export interface SlotQuery {
  readonly slot: number;
  readonly from: ReadFrom;
}

/** Of all slots of a read together. */
export interface ReadBounds {
  readonly limit: number;
  /** Of data. The first change is read whatever its size. */
  readonly maxBytes: number;
  /** Only changes of these channels: exact names, and prefixes without their final `*`. All where it is left out. */
  readonly channels?: { readonly names: readonly string[]; readonly prefixes: readonly string[] };
}

/**
 * Changes published in this time, in Unix ms, may be missing: they left the log before they were read, or the store lost them. A gap
 * concerns the slot, whatever channels were asked for.
 */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

export interface SlotRead {
  readonly slot: number;
  /** Before the changes. */
  readonly gap?: Gap;
  readonly changes: readonly Change[];
  /** Where the next read continues: of the last change that was looked at, whether or not it was asked for. */
  readonly place: Place;
  /** Of the newest change of the slot: where it is not `place`, the bounds ended the read. */
  readonly newest: Place;
}

/** The right to read a slot's log for deliveries, until {@link readerLeaseMs} after it was taken or extended. */
export interface ReaderLease {
  readonly slot: number;
  /** The fencing token: grows with each lease of the slot. */
  readonly fence: number;
}

/** The place of one consumer in one slot. */
export interface SlotCursor {
  readonly slot: number;
  /** Of the consumer: 1 to 128 visible ASCII characters. */
  readonly name: string;
  readonly place: Place;
}

export interface CursorChange {
  readonly slot: number;
  readonly name: string;
  /** undefined removes the cursor. */
  readonly place: Place | undefined;
  /** Only while this lease is held. */
  readonly lease?: ReaderLease;
}

export interface SlotFigures {
  readonly slot: number;
  /** Of the kept changes: see `changeOverheadBytes`. */
  readonly bytes: number;
  readonly changes: number;
  /** Unix ms of the oldest change kept; undefined where none is. */
  readonly oldestAt: number | undefined;
  readonly newest: Place;
}

export interface ChangeListener {
  /** A change was appended. May be missed: a read tells everything. */
  onAppended(slot: number, channel: string): void;
  /** Such news may have been missed, of any slot. */
  onRestored(): void;
}

/** Reads fail with TidegateError `broker_unavailable`, within a bounded time, where the store is out of reach. */
export interface ChangeLog extends Service {
  readonly state: StoreState;
  /**
   * Reads slots in the given order until a bound ends it. @returns only the slots that were looked at, in that order; those of a Redis that is out of
   * reach are left out where others have changes.
   */
  read(queries: readonly SlotQuery[], bounds: ReadBounds): Promise<readonly SlotRead[]>;
  /** Follows the news of all slots. Resolves once everything appended from now on is reported. */
  listen(listener: ChangeListener): Promise<void>;
  /**
   * Takes slots that nobody holds, or this holder does, or whose lease has expired; slots that cannot be reached are left out.
   * @returns leases of those taken, with new fences.
   */
  takeLeases(slots: readonly number[], holder: string): Promise<readonly ReaderLease[]>;
  /** For another {@link readerLeaseMs}. @returns for each whether it is still held; undefined: its slot cannot be reached. */
  extendLeases(leases: readonly ReaderLease[]): Promise<readonly (boolean | undefined)[]>;
  /** So that another process takes the slots at once. */
  releaseLeases(leases: readonly ReaderLease[]): Promise<void>;
  /**
   * Sets or removes cursors. A cursor is live: what stands after the slowest one of its slot is kept, up to the caps.
   * @returns for each whether it was done; false: the lease has ended, or the slot has {@link maxCursors} already.
   */
  saveCursors(changes: readonly CursorChange[]): Promise<readonly boolean[]>;
  /**
   * Keeps what stands after these places, up to the caps, in the name of a consumer that saves its cursor itself; each call replaces the
   * one before. Ends by itself where the consumer stays behind the caps. A slot with {@link maxCursors} names is left out.
   */
  keep(name: string, places: readonly { slot: number; place: Place }[]): Promise<void>;
  /** The consumer's cursors in these slots; slots without one are left out. */
  cursors(slots: readonly number[], name: string): Promise<readonly SlotCursor[]>;
  /** Of every slot that has a log. */
  figures(): Promise<readonly SlotFigures[]>;
}

/** Extended at a third of it. */
export const readerLeaseMs = 10_000;
/** Of one slot: more than there can be endpoints, each of which has two while it moves. A consumer that finds no room stands still. */
export const maxCursors = 50_000;
