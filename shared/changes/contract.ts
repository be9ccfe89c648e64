/**
 * The contract of the change log: for namespaces with `changes: true`, the script that publishes also appends to the log of the
 * channel's slot. So followers, webhooks and pulls see one order. Memory and Redis pass the same suite
 * (test/contract/change-log-suite.ts).
 *
 * Every implementation MUST
 * - append with the publish, in one step: a publication that is stored is in the log, once, and one that is refused, ephemeral or
 *   a duplicate is not;
 * - keep the order of the slot, and give no place twice, even if the store lost its latest writes;
 * - note rows of SQL sources that leave the log while a live cursor needs them, with their places: readers get their data from the table;
 * - report a gap to a reader whose next changes are gone, or that has seen changes which the store has lost;
 * - keep everything of a slot under names that begin with its tag, so that the slot can move to another Redis. Places stay valid.
 */
import type { RowName } from "../channels/contract.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { StoreState } from "../runtime/store-state.ts";

/**
 * Names a change in its slot's log: `time-number`. The time is the Unix ms at which it was appended, and never decreases. The number counts the
 * changes of the slot up to this one. places.ts compares places, and says how many changes are between two. Places of different slots are not
 * comparable.
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
  /** Of the publish request. */
  readonly origin?: string;
}

/** A change that has left the log, whose data is still in a table of a SQL source. */
export interface RowChange extends Omit<Change, "data"> {
  readonly row: RowName;
  /** Of its data. */
  readonly bytes: number;
}

/** Where a read begins. */
export type ReadFrom =
  /** The oldest change that is kept. */
  | { readonly kind: "start" }
  /** After the newest change: the read has no changes, only the place. */
  | { readonly kind: "end" }
  /** Changes of that time, in Unix ms, and later ones. */
  | { readonly kind: "time"; readonly at: number }
  /** A place that an earlier read returned, or one of `placeAtTime`. */
  | { readonly kind: "after"; readonly place: Place };

export interface SlotQuery {
  readonly slot: number;
  readonly from: ReadFrom;
  /** Only while this lease is held. */
  readonly lease?: ReaderLease;
}

/** Of all slots of a read together. */
export interface ReadBounds {
  readonly limit: number;
  /** Of data. The first change is read whatever its size. */
  readonly maxBytes: number;
  /** Only changes of these channels: exact names, and prefixes without their final `*`. All where it is left out. */
  readonly channels?: { readonly names: readonly string[]; readonly prefixes: readonly string[] };
  /** Also reads rows that have left the log. Without it they are a gap, like everything else that has left. */
  readonly withRows?: boolean;
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
  /** In place of changes: rows that have left the log. From `until` on the log has changes. */
  readonly rows?: { readonly changes: readonly RowChange[]; readonly until: Place };
  /** Of the newest change of the slot: where it is not `place`, the bounds ended the read. */
  readonly newest: Place;
  /** The lease of the query has ended: nothing was read, and the places say nothing. */
  readonly hasEnded?: true;
}

/**
 * The right to read a slot's log for deliveries, until {@link readerLeaseMs} after it was taken or extended. It ends earlier if its
 * Redis is restarted, or replaced by one that may lack the latest writes. What the holder stored last may be gone then, so it takes the
 * slot again and continues from the cursors that are left.
 */
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

export interface CursorPart {
  readonly cursors: readonly SlotCursor[];
  /** Undefined: this is the last part. */
  readonly next: string | undefined;
}

/** Begins the parts of the cursors of a slot. */
export const firstCursors = "0";

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
  /** Of the notes about rows that have left the log. */
  readonly rowBytes: number;
  readonly newest: Place;
}

export interface ChangeListener {
  /** A change was appended. The news may be lost: only a read is complete. */
  onAppended(slot: number, channel: string): void;
  /** Such news may have been missed, of any slot. */
  onRestored(): void;
}

/** Reads fail with TidegateError `broker_unavailable`, within a bounded time, where the store is out of reach. */
export interface ChangeLog extends Service {
  readonly state: StoreState;
  /**
   * Reads slots in the given order until a bound ends the read.
   * @returns only the slots that were looked at, in that order. Slots of a Redis that is out of reach are left out if others have changes.
   */
  read(queries: readonly SlotQuery[], bounds: ReadBounds): Promise<readonly SlotRead[]>;
  /** Follows the news of all slots. Resolves once everything appended from now on is reported. */
  listen(listener: ChangeListener): Promise<void>;
  /**
   * Takes slots without a lease, with an expired one, or whose last lease is of the same holder. Slots that cannot be reached are left
   * out.
   * @returns the leases that were taken, with new fences.
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
   * Keeps what follows these places, up to the caps, for a consumer that stores its cursor itself. Each call replaces the one before. The
   * effect ends once a place is past the caps. Slots with {@link maxCursors} names are left out.
   */
  keep(name: string, places: readonly { slot: number; place: Place }[]): Promise<void>;
  /** A part of the slot's cursors, of all consumers. @param from {@link firstCursors}, or `next` of the part before */
  cursorsOf(slot: number, from: string): Promise<CursorPart>;
  /** The consumer's cursors in these slots; slots without one are left out. */
  cursors(slots: readonly number[], name: string): Promise<readonly SlotCursor[]>;
  /** Of every slot that has a log. */
  figures(): Promise<readonly SlotFigures[]>;
}

/** Extended at a third of it. */
export const readerLeaseMs = 10_000;
/**
 * Of one slot: room for 20,000 endpoints, each of which has three at the end of a stop (its own, that of the stop, that of its next generation),
 * and for pulls. A consumer that finds no room stands still.
 */
export const maxCursors = 70_000;
