/**
 * One channel's followers, and the position up to which this node has delivered the channel to them: every publication reaches
 * every follower once and in offset order. Pure: it reports a gap, and its owner reads history.
 */
import type { Ephemeral, HistorySlice, Position, Publication } from "../../shared/channels/contract.ts";
import type { RecoveryReason } from "../../shared/protocol/codes.ts";
import { ephemeralFrame, type Frame, publicationFrame } from "../outbox/frames.ts";
import { bridge } from "./recovery.ts";

export interface Follower {
  /** In offset order, without a gap. */
  deliver(frame: Frame, publication: Publication): void;
  deliverEphemeral(frame: Frame): void;
  /**
   * History has a gap: deliveries continue after `position`.
   * @returns true where the follower needs a resync notice, and none was pending before.
   */
  markLost(position: Position, reason: RecoveryReason): boolean;
  /** Deliveries continue after `position`. @returns the reason of the pending notice; undefined where none was pending. */
  resync(position: Position): RecoveryReason | undefined;
}

/** The channel that the deliveries belong to. */
export interface DeliveryOwner {
  readonly name: string;
  /** Slow readers of the channel keep only the newest publication of each event. */
  readonly keepsLatest: boolean;
  /** After each publication, with the number of followers that got it. */
  onDelivered(epoch: string, publication: Publication, followers: number): void;
  /** History has a gap: deliveries continue after `position`. `lost`: the followers that need a resync notice. */
  onBroken(position: Position, lost: readonly Follower[]): void;
}

/** A read of history that begins now. Its answer is void once the channel is misaligned again or has no follower left. */
export interface Alignment {
  readonly generation: number;
  /** Read after this; undefined: any position will do. */
  readonly from: Position | undefined;
  /** The broker is known to have the channel up to here. */
  readonly reaching: Position | undefined;
}

/** Publications held beyond this are dropped, and read from history. */
const maxHeldBytes = 1024 * 1024;
/** Approximate memory of a held publication besides its data: objects, names, offsets. */
const overheadBytes = 200;

export class OrderedDelivery {
  readonly #owner: DeliveryOwner;
  readonly #followers = new Set<Follower>();
  /** Of the last delivered publication; undefined until the first alignment. */
  #reached: Position | undefined;
  /** False until history is read: publications that arrive meanwhile are held. */
  #aligned = false;
  /** Grows with each misalignment: a read that began before says nothing about now. */
  #generation = 0;
  #held: { epoch: string; publication: Publication }[] = [];
  /** Includes publications that were dropped. */
  #heldBytes = 0;

  constructor(owner: DeliveryOwner) {
    this.#owner = owner;
  }

  get followerCount(): number {
    return this.#followers.size;
  }

  get isFollowed(): boolean {
    return this.#followers.size > 0;
  }

  /** Where live deliveries stand; undefined while misaligned. */
  get position(): Position | undefined {
    return this.#aligned ? this.#reached : undefined;
  }

  add(follower: Follower): void {
    this.#followers.add(follower);
  }

  remove(follower: Follower): void {
    this.#followers.delete(follower);
    if (!this.isFollowed) this.misalign();
  }

  /** Publications may be missing, and a read under way may not have seen them. */
  misalign(): void {
    this.#aligned = false;
    this.#generation++;
  }

  /** Where a read of history has to start; undefined without a follower. */
  beginAlignment(): Alignment | undefined {
    if (!this.isFollowed) return undefined;
    const newest = this.#held.at(-1);
    const reaching = newest ? { epoch: newest.epoch, offset: newest.publication.offset } : this.#reached;
    return { generation: this.#generation, from: this.#reached, reaching };
  }

  /** @returns true where publications are missing before this one: the owner must align the channel. */
  receive(epoch: string, publication: Publication): boolean {
    const { position } = this;
    if (!position) {
      this.#hold(epoch, publication);
      return false;
    }
    if (epoch === position.epoch && publication.offset <= position.offset) return false;
    if (epoch !== position.epoch || publication.prev !== position.offset) {
      this.misalign();
      this.#hold(epoch, publication);
      return true;
    }
    this.#deliver(epoch, publication);
    return false;
  }

  receiveEphemeral(ephemeral: Ephemeral): void {
    const frame = ephemeralFrame(this.#owner.name, ephemeral, this.#owner.keepsLatest);
    for (const follower of this.#followers) follower.deliverEphemeral(frame);
  }

  /**
   * Delivers what history has after `alignment.from`, then what was held.
   * @param slice read after `alignment.from`, by a read that began after the alignment.
   * @returns true where another alignment is needed.
   */
  align({ generation, from }: Alignment, slice: HistorySlice): boolean {
    if (!this.isFollowed) return false;
    if (this.#generation !== generation) return true;
    // Another read was faster: this one says nothing about where the channel stands now.
    if (this.#aligned || this.#reached !== from) return !this.#aligned;
    if (from === undefined) this.#reached = slice.position;
    else {
      const missed = bridge(from, slice);
      if (missed.kind === "broken") {
        this.#reached = slice.position;
        const lost = [...this.#followers].filter((follower) => follower.markLost(slice.position, missed.reason));
        this.#owner.onBroken(slice.position, lost);
      } else {
        for (const publication of missed.publications) this.#deliver(from.epoch, publication);
        if (slice.more) return true;
      }
    }
    return this.#deliverHeld(slice.position.epoch);
  }

  /** @returns true where another alignment is needed. */
  #deliverHeld(currentEpoch: string): boolean {
    const held = this.#held;
    const dropped = this.#heldBytes > maxHeldBytes;
    this.#held = [];
    this.#heldBytes = 0;
    const current = held.filter(({ epoch }) => epoch === currentEpoch);
    // Some were dropped, or belong to another history, older or newer than the one just read: one more read decides.
    if (dropped || current.length < held.length) return true;
    this.#aligned = true;
    let gap = false;
    for (const { epoch, publication } of current) gap = this.receive(epoch, publication) || gap;
    return gap;
  }

  #deliver(epoch: string, publication: Publication): void {
    this.#reached = { epoch, offset: publication.offset };
    const frame = publicationFrame(this.#owner.name, publication, this.#owner.keepsLatest);
    for (const follower of this.#followers) follower.deliver(frame, publication);
    this.#owner.onDelivered(epoch, publication, this.#followers.size);
  }

  #hold(epoch: string, publication: Publication): void {
    this.#heldBytes += Buffer.byteLength(publication.data) + overheadBytes;
    if (this.#heldBytes <= maxHeldBytes) this.#held.push({ epoch, publication });
  }
}
