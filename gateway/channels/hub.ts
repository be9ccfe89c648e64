/**
 * Which local followers a channel has, and how far it has come on this node. Pure: it reports a gap and leaves the
 * reading of history to its owner.
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
   * History cannot bridge: deliveries go on after `position`.
   * @returns true where the follower has to be told, and has not been waiting for that already.
   */
  lose(position: Position, reason: RecoveryReason): boolean;
  /** Deliveries go on after `position`. @returns why; undefined where the follower was not waiting to be told. */
  resync(position: Position): RecoveryReason | undefined;
}

export interface HubListener {
  /** After each publication, with the number of followers that got it. */
  onDelivered(channel: string, epoch: string, publication: Publication, followers: number): void;
  /** History did not bridge: the hub goes on after `position`. `lost`: the followers that have to be told. */
  onBroken(channel: string, position: Position, lost: readonly Follower[]): void;
}

/** A reading of history towards alignment: void once the channel is misaligned again, or was left and joined anew. */
export interface Alignment {
  readonly name: string;
  readonly generation: number;
  /** Read after this; undefined: any position will do. */
  readonly from: Position | undefined;
  /** The channel is known to have come this far. */
  readonly reaching: Position | undefined;
}

interface Channel {
  readonly followers: Set<Follower>;
  /** The last publication that was delivered; undefined until the first alignment. */
  position: Position | undefined;
  /** False while history has to be read first: what arrives is held. */
  aligned: boolean;
  /** Of its alignment: what is read for an earlier one says nothing about now. */
  generation: number;
  held: { epoch: string; publication: Publication }[];
  /** Counts what was not held any more, too. */
  heldBytes: number;
}

/** Held beyond this is dropped, and read from history. */
const maxHeldBytes = 1024 * 1024;

export class Hub {
  readonly #listener: HubListener;
  readonly #isLatest: (channel: string) => boolean;
  readonly #channels = new Map<string, Channel>();
  #lastGeneration = 0;

  /** @param isLatest whether slow readers of the channel keep only the newest publication per event. */
  constructor(listener: HubListener, isLatest: (channel: string) => boolean = () => false) {
    this.#listener = listener;
    this.#isLatest = isLatest;
  }

  get channelCount(): number {
    return this.#channels.size;
  }

  channels(): Iterable<string> {
    return this.#channels.keys();
  }

  add(name: string, follower: Follower): void {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = {
        followers: new Set(),
        position: undefined,
        aligned: false,
        generation: ++this.#lastGeneration,
        held: [],
        heldBytes: 0,
      };
      this.#channels.set(name, channel);
    }
    channel.followers.add(follower);
  }

  /** The state of a channel goes with its last follower. */
  remove(name: string, follower: Follower): void {
    const channel = this.#channels.get(name);
    channel?.followers.delete(follower);
    if (channel?.followers.size === 0) this.#channels.delete(name);
  }

  has(name: string): boolean {
    return this.#channels.has(name);
  }

  /** Where live deliveries of an aligned channel stand. */
  position(name: string): Position | undefined {
    const channel = this.#channels.get(name);
    return channel?.aligned ? channel.position : undefined;
  }

  /** After an interruption nobody knows what was missed, nor whether a read under way saw it. */
  misalign(name: string): void {
    const channel = this.#channels.get(name);
    if (!channel) return;
    channel.aligned = false;
    channel.generation = ++this.#lastGeneration;
  }

  /** Where a reading of history has to start; undefined where nobody follows the channel. */
  beginAlignment(name: string): Alignment | undefined {
    const channel = this.#channels.get(name);
    if (!channel) return undefined;
    const { generation, position: from, held } = channel;
    const newest = held.at(-1);
    const reaching = newest ? { epoch: newest.epoch, offset: newest.publication.offset } : from;
    return { name, generation, from, reaching };
  }

  /** @returns true where the publication does not follow on what was delivered: the owner must align the channel. */
  receive(name: string, epoch: string, publication: Publication): boolean {
    const channel = this.#channels.get(name);
    if (!channel) return false;
    if (!channel.aligned || !channel.position) {
      hold(channel, epoch, publication);
      return false;
    }
    const { position } = channel;
    if (epoch === position.epoch && publication.offset <= position.offset) return false;
    if (epoch !== position.epoch || publication.prev !== position.offset) {
      this.misalign(name);
      hold(channel, epoch, publication);
      return true;
    }
    this.#deliver(channel, name, publication);
    return false;
  }

  receiveEphemeral(name: string, ephemeral: Ephemeral): void {
    const channel = this.#channels.get(name);
    if (!channel) return;
    const frame = ephemeralFrame(name, ephemeral, this.#isLatest(name));
    for (const follower of channel.followers) follower.deliverEphemeral(frame);
  }

  /**
   * Brings a channel up to what history says, then delivers what was held.
   * @param slice read after `alignment.from`, after the alignment was begun.
   * @returns true where another alignment is needed.
   */
  align({ name, generation, from }: Alignment, slice: HistorySlice): boolean {
    const channel = this.#channels.get(name);
    if (!channel) return false;
    if (channel.generation !== generation) return true;
    // Another reading was faster: this one says nothing about where the channel stands now.
    if (channel.aligned || channel.position !== from) return !channel.aligned;
    if (channel.position === undefined) channel.position = slice.position;
    else {
      const way = bridge(channel.position, slice);
      if (way.kind === "broken") {
        channel.position = slice.position;
        const lost = [...channel.followers].filter((follower) => follower.lose(slice.position, way.reason));
        this.#listener.onBroken(name, slice.position, lost);
      } else {
        for (const publication of way.publications) this.#deliver(channel, name, publication);
        if (slice.more) return true;
      }
    }
    const { held, heldBytes, position } = channel;
    channel.held = [];
    channel.heldBytes = 0;
    const current = held.filter(({ epoch }) => epoch === position?.epoch);
    // Dropped, or of another history, older or newer than the one just read: one more read tells.
    if (heldBytes > maxHeldBytes || current.length < held.length) return true;
    channel.aligned = true;
    let gap = false;
    for (const { epoch, publication } of current) gap = this.receive(name, epoch, publication) || gap;
    return gap;
  }

  #deliver(channel: Channel, name: string, publication: Publication): void {
    if (channel.position) channel.position = { epoch: channel.position.epoch, offset: publication.offset };
    const frame = publicationFrame(name, publication, this.#isLatest(name));
    for (const follower of channel.followers) follower.deliver(frame, publication);
    this.#listener.onDelivered(name, channel.position?.epoch ?? "", publication, channel.followers.size);
  }
}

function hold(channel: Channel, epoch: string, publication: Publication): void {
  channel.heldBytes += publication.data.length;
  if (channel.heldBytes <= maxHeldBytes) channel.held.push({ epoch, publication });
}
