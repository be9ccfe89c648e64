import type { JoinLeave, Position, Resync, SubscribeAck } from "../../../shared/protocol/wire.ts";
import type { PublicationMeta, Subscription } from "../api/channel.ts";
import type { Requester } from "../calls/requester.ts";
import { ChannelStream } from "./channel-stream.ts";
import type { Deduplicator } from "./deduplicator.ts";
import { advance, bridges, furthest, replayStart, sameHistory } from "./position.ts";
import type { SubscribeRequest } from "./subscribe-request.ts";

export interface DeliveryListener {
  published(event: string, data: unknown, meta: PublicationMeta): void;
  resync(resync: Resync): void;
  /** A request is granted for the first time: what it missed is delivered. */
  answered(subscription: Subscription): void;
}

/**
 * Delivers a channel's publications in order and once, from one connection, or from two during a move.
 *
 * A stream counts while it bridges the client's position: it brings every publication after it. With two such streams it
 * does not matter which one brings a publication first, or whether the other one fails.
 */
export class ChannelDelivery {
  readonly #name: string;
  readonly #deduplicator: Deduplicator;
  readonly #listener: DeliveryListener;
  #position: Position | null = null;
  #newest: ChannelStream | null = null;
  /** On the connection that a move leaves, until that is closed. */
  #earlier: ChannelStream | null = null;

  constructor(name: string, deduplicator: Deduplicator, listener: DeliveryListener) {
    this.#name = name;
    this.#deduplicator = deduplicator;
    this.#listener = listener;
  }

  get position(): Position | null {
    return this.#position;
  }

  get newest(): ChannelStream | null {
    return this.#newest;
  }

  /** The live stream for what has no offset; the newest one if both are live. */
  get source(): ChannelStream | null {
    if (this.#newest?.live) return this.#newest;
    return this.#earlier?.live ? this.#earlier : null;
  }

  /** The gateway has granted a request on a connection that is open. */
  get granted(): boolean {
    return [this.#newest, this.#earlier].some((stream) => stream !== null && stream.granted !== null);
  }

  /** The earlier connection can be closed without a gap. */
  get handedOver(): boolean {
    return !this.#earlier?.live || this.#bridges(this.#newest);
  }

  on(connection: Requester): ChannelStream | null {
    if (this.#newest?.connection === connection) return this.#newest;
    return this.#earlier?.connection === connection ? this.#earlier : null;
  }

  /** `null`: at the position of the next answer. */
  startAt(position: Position | null): void {
    this.#position = position;
  }

  connected(connection: Requester): void {
    this.#earlier = this.#newest;
    this.#newest = new ChannelStream(connection);
  }

  /** False for a connection without a stream. */
  disconnected(connection: Requester): boolean {
    const closed = this.on(connection);
    if (!closed) return false;
    const left = closed === this.#newest ? this.#earlier : this.#newest;
    this.#newest = left;
    this.#earlier = null;
    // It skipped publications that the closed stream was to bring: they must be requested.
    if (left?.live && !this.#bridges(left)) left.granted = null;
    return true;
  }

  close(): void {
    this.#newest = this.#earlier = null;
  }

  deliver(connection: Requester, event: string, data: unknown, meta: PublicationMeta): void {
    const stream = this.on(connection);
    if (stream) this.#deliver(stream, event, data, meta);
  }

  /** False for what the other connection has brought. */
  isNew(connection: Requester, event: string, data: JoinLeave): boolean {
    return connection === this.source?.connection && this.#deduplicator.isNew(connection, event, data);
  }

  resync(connection: Requester, resync: Resync): void {
    const stream = this.on(connection);
    if (!stream?.live) return;
    stream.position = resync.position;
    const other = stream === this.#newest ? this.#earlier : this.#newest;
    // The other connection brings what this one skips.
    if (this.#bridges(other) && sameHistory(resync.position, this.#position)) return;
    this.#position = resync.position;
    this.#listener.resync(resync);
  }

  /** The gateway granted the stream's request. @param presented the position that the request carried */
  replay(stream: ChannelStream, request: SubscribeRequest, presented: Position | null, ack: SubscribeAck): void {
    const { recovered, position, reason } = ack;
    const bridged = this.#bridges(this.#earlier);
    // The position has moved since the request: history may bridge the new one.
    if (!bridged && !recovered && presented !== this.#position) return void (stream.granted = null);
    if (!bridged) this.#position = replayStart(this.#position, ack);
    // If nothing was recovered, the earlier connection leads up to the ack's position.
    stream.position = bridged ? (recovered ? presented : position) : this.#position;
    for (const { event, data, ...meta } of ack.publications) {
      this.#deliver(stream, event, data, { channel: this.#name, ...meta });
    }
    // By a listener.
    if (request.withdrawn) return;
    stream.position = position;
    if (!bridged || (recovered && sameHistory(position, this.#position))) {
      this.#position = furthest(this.#position, position);
    }
    if (bridged) return;
    if (!request.answered) {
      request.answered = true;
      this.#listener.answered({ recovered, position, ...(reason && { reason }) });
    } else if (!recovered && reason) this.#listener.resync({ channel: this.#name, position, reason });
  }

  #bridges(stream: ChannelStream | null): boolean {
    return stream !== null && stream.live && bridges(stream.position, this.#position);
  }

  #deliver(stream: ChannelStream, event: string, data: unknown, meta: PublicationMeta): void {
    if (!stream.live) return;
    if (meta.offset !== undefined) {
      const next = this.#bridges(stream) && this.#position && advance(this.#position, meta.offset);
      stream.advance(meta.offset);
      if (!next) return;
      this.#position = next;
    } else if (stream !== this.source || !this.#deduplicator.isNew(stream.connection, event, data, meta)) return;
    this.#listener.published(event, data, meta);
  }
}
