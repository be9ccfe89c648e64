/**
 * Sends calls of slots to the cells that own them. Calls of one slot keep their order, also while the slot moves and where a cell
 * refuses a call because this process knows an older map: a refused call is repeated ahead of later ones.
 */
import type { CellMap } from "./cell-map.ts";
import { demandedVersion } from "./fence.ts";
import { pinSlotCount, slotCount } from "./slots.ts";
import { brokerUnavailable } from "./unavailable.ts";

/** Longest wait of a call for its slot. A move closes a slot for a shorter time. */
export const maxWaitMs = 5_000;
/** Calls that wait, and the bytes of their arguments. */
const maxWaiting = 20_000;
const maxWaitingBytes = 32 * 1024 * 1024;

/** @param slots all of one cell. MUST send at once, in the turn of the call, and nothing twice. */
export type SlotCall<Access, Reply> = (cell: Access, slots: readonly number[]) => Promise<Reply>;

/** More than one reply where the call was repeated slot by slot. */
export interface SlotReplies<Reply> {
  readonly slots: readonly number[];
  readonly replies: Promise<Reply[]>;
}

interface Entry<Access> {
  slots: readonly number[];
  /** Grows with each call. */
  ticket: number;
  /** By `performance.now()` */
  deadline: number;
  bytes: number;
  call: SlotCall<Access, unknown>;
  resolve: (replies: unknown[]) => void;
  reject: (error: unknown) => void;
  timer?: NodeJS.Timeout;
}

interface Gate<Access> {
  inFlight: number;
  /** Calls under an older map are in flight: later ones wait for their end. */
  settling: boolean;
  /** The version that a cell demanded; 0: none. Infinity: the cell has no fence. */
  demanded: number;
  waiting: Entry<Access>[];
}

export class SlotGates<Access> {
  readonly #accessOf: (cell: string, version: number) => Access;
  readonly #onWaiting: () => void;
  readonly #spansSlots: (cell: string) => boolean;
  readonly #gates: readonly Gate<Access>[] = Array.from({ length: slotCount + pinSlotCount }, () => ({
    inFlight: 0,
    settling: false,
    demanded: 0,
    waiting: [],
  }));
  #map: CellMap | undefined;
  #closed = new Set<number>();
  #tickets = 0;
  #waiting = 0;
  #waitingBytes = 0;

  /**
   * @param options.accessOf throws where this process does not know the cell.
   * @param options.onWaiting a call waits: the map should be read again.
   * @param options.spansSlots whether one call may concern several slots of the cell.
   */
  constructor(options: {
    accessOf: (cell: string, version: number) => Access;
    onWaiting: () => void;
    spansSlots: (cell: string) => boolean;
  }) {
    this.#accessOf = options.accessOf;
    this.#onWaiting = options.onWaiting;
    this.#spansSlots = options.spansSlots;
  }

  /** Calls that wait for their slot. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Cells that refused a call for lack of a fence. */
  get unfenced(): ReadonlySet<string> {
    const slots = [...this.#gates.entries()].filter(([, { demanded }]) => demanded === Infinity);
    return new Set(slots.flatMap(([slot]) => this.#map?.owners[slot] ?? []));
  }

  /** An older map, or the same, changes nothing. */
  use(map: CellMap): void {
    if (this.#map && map.version <= this.#map.version) return;
    this.#map = map;
    this.#closed = new Set(map.moves.filter(({ step }) => step === "closed").flatMap(({ slots }) => slots));
    for (const gate of this.#gates) {
      if (gate.inFlight > 0) gate.settling = true;
      if (gate.demanded <= map.version) gate.demanded = 0;
    }
    for (const slot of this.#gates.keys()) this.#release(slot);
  }

  /** The cell has a fence now. */
  fenced(cell: string): void {
    for (const [slot, gate] of this.#gates.entries()) {
      if (gate.demanded !== Infinity || this.#map?.owners[slot] !== cell) continue;
      gate.demanded = 0;
      this.#release(slot);
    }
  }

  /** One call for each cell, in a cluster for each slot; slots that are moving follow one by one. Each call succeeds or fails by itself. */
  submit<Reply>(slots: readonly number[], bytes: number, call: SlotCall<Access, Reply>): SlotReplies<Reply>[] {
    const ticket = ++this.#tickets;
    const deadline = performance.now() + maxWaitMs;
    const groups = new Map<string | number, number[]>();
    const parts: SlotReplies<unknown>[] = [];
    for (const slot of slots) {
      const cell = this.#map?.owners[slot];
      if (cell === undefined || !this.#isOpen(slot) || this.#gate(slot).waiting.length > 0) {
        const replies = this.#wait({ slots: [slot], ticket, deadline, bytes: bytes / slots.length, call });
        parts.push({ slots: [slot], replies });
      } else {
        const group = this.#spansSlots(cell) ? cell : slot;
        groups.set(group, [...(groups.get(group) ?? []), slot]);
      }
    }
    for (const own of groups.values()) {
      const { promise, resolve, reject } = Promise.withResolvers<unknown[]>();
      this.#start({ slots: own, ticket, deadline, bytes: (bytes * own.length) / slots.length, call, resolve, reject });
      parts.push({ slots: own, replies: promise });
    }
    return parts as SlotReplies<Reply>[];
  }

  stop(): void {
    for (const slot of this.#gates.keys()) {
      for (const entry of this.#gate(slot).waiting.splice(0)) this.#giveUp(entry, "this process stops");
    }
  }

  #gate(slot: number): Gate<Access> {
    const gate = this.#gates[slot];
    if (!gate) throw new Error(`no such slot: ${slot}`);
    return gate;
  }

  #isOpen(slot: number): boolean {
    const { settling, demanded } = this.#gate(slot);
    return this.#map !== undefined && !settling && demanded === 0 && !this.#closed.has(slot);
  }

  #start(entry: Entry<Access>): void {
    const { slots, call, resolve, reject } = entry;
    const { owners = [], version = 0 } = this.#map ?? {};
    let reply: Promise<unknown>;
    try {
      reply = call(this.#accessOf(owners[slots[0] ?? 0] ?? "", version), slots);
    } catch (error) {
      reject(error);
      return;
    }
    for (const slot of slots) this.#gate(slot).inFlight++;
    reply.then(
      (value) => {
        this.#leave(slots);
        resolve([value]);
      },
      (error: unknown) => {
        const demanded = demandedVersion(error);
        if (demanded === undefined) reject(error);
        else this.#repeat(entry, demanded === 0 ? Infinity : demanded);
        this.#leave(slots);
      },
    );
  }

  /** The cell refused it and did nothing. */
  #repeat({ slots, bytes, resolve, reject, ...others }: Entry<Access>, demanded: number): void {
    const version = this.#map?.version ?? 0;
    const again = slots.map(async (slot) => {
      const gate = this.#gate(slot);
      if (demanded === Infinity || demanded > version) gate.demanded = Math.max(gate.demanded, demanded);
      return this.#wait({ ...others, slots: [slot], bytes: bytes / slots.length });
    });
    Promise.all(again).then((replies) => resolve(replies.flat()), reject);
  }

  async #wait(given: Omit<Entry<Access>, "resolve" | "reject">): Promise<unknown[]> {
    if (this.#waiting >= maxWaiting || this.#waitingBytes + given.bytes > maxWaitingBytes) {
      throw brokerUnavailable("too many calls wait for a slot that moves between cells");
    }
    return new Promise((resolve, reject) => {
      const entry: Entry<Access> = { ...given, resolve, reject };
      const { waiting } = this.#gate(entry.slots[0] ?? 0);
      let at = waiting.length;
      while (at > 0 && (waiting[at - 1]?.ticket ?? 0) > entry.ticket) at--;
      waiting.splice(at, 0, entry);
      this.#waiting++;
      this.#waitingBytes += entry.bytes;
      const expire = (): void => {
        waiting.splice(waiting.indexOf(entry), 1);
        this.#giveUp(entry, "its slot moves between cells, or the map of cells cannot be read");
      };
      entry.timer = setTimeout(expire, Math.max(0, entry.deadline - performance.now()));
      this.#onWaiting();
    });
  }

  #giveUp(entry: Entry<Access>, reason: string): void {
    this.#taken(entry);
    entry.reject(brokerUnavailable(`the call waited too long: ${reason}`));
  }

  #taken(entry: Entry<Access>): void {
    clearTimeout(entry.timer);
    this.#waiting--;
    this.#waitingBytes -= entry.bytes;
  }

  #leave(slots: readonly number[]): void {
    for (const slot of slots) {
      const gate = this.#gate(slot);
      gate.inFlight--;
      if (gate.inFlight > 0) continue;
      gate.settling = false;
      this.#release(slot);
    }
  }

  /** Sends what waits, in the order of the tickets. */
  #release(slot: number): void {
    const { waiting } = this.#gate(slot);
    while (this.#isOpen(slot)) {
      const entry = waiting.shift();
      if (!entry) return;
      this.#taken(entry);
      this.#start(entry);
    }
  }
}
