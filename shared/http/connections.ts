/** The connections of a door: their bounds, and which one to evict when there are too many. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { FairPool } from "../runtime/fair-pool.ts";
import { networkOf } from "./network.ts";
import { beginsMoreThan, stopReading } from "./door-input.ts";
import { RefusalDelay } from "./refusal-delay.ts";

export interface ConnectionBounds {
  /** Open at once, of any kind. */
  total: number;
  /** Of those: unproven ones, which have sent no request that the door vouches for. */
  unproven: number;
}

/** Unanswered requests of one connection. Known clients send the next request after the answer. */
const maxPipelined = 16;

/** Connections that are delayed before they are closed; further ones are closed at once. */
const maxDelayed = 1_000;

/** Why the door closed a connection. */
export type Closure =
  /** Too many unproven connections; this one is the oldest of the address with the most. */
  | "crowded"
  /** No room, and no unproven connection to evict. */
  | "full"
  | "pipelined"
  /** The request did not arrive in time. */
  | "late"
  /** What arrived is not HTTP. */
  | "malformed";

/**
 * Every connection begins unproven. If there are too many unproven ones, the address with the most loses its oldest one, so that
 * other addresses find room. A connection leaves that pool while the door vouches for its request, and for good once it is
 * upgraded: then other bounds count it.
 */
export class DoorConnections {
  readonly #bounds: ConnectionBounds;
  readonly #onClosed: (closure: Closure) => void;
  readonly #unproven = new FairPool<Socket>();
  readonly #refusalDelay = new RefusalDelay(maxDelayed);
  /** No longer read, and about to be closed. */
  readonly #closing = new WeakSet<Socket>();
  /** Responses under way, by connection that has had a request. */
  readonly #pending = new Map<Socket, Set<ServerResponse>>();
  #total = 0;

  constructor(bounds: ConnectionBounds, onClosed: (closure: Closure) => void) {
    this.#bounds = bounds;
    this.#onClosed = onClosed;
  }

  get total(): number {
    return this.#total;
  }

  get unproven(): number {
    return this.#unproven.size;
  }

  arrived(socket: Socket): void {
    this.#total++;
    socket.once("close", () => {
      this.#total--;
      this.#unproven.delete(socket);
      this.#pending.delete(socket);
    });
    this.#add(socket);
    // Evict one early: the next connection must not be refused while there is one to evict.
    if (this.#unproven.size <= this.#bounds.unproven && this.#total < this.#bounds.total) return;
    const oldest = this.#unproven.next;
    if (oldest) this.#evict(oldest);
  }

  /** @returns false where the connection was closed instead. */
  requested(request: IncomingMessage, response: ServerResponse): boolean {
    const { socket } = request;
    if (socket.destroyed || this.#closing.has(socket)) return false;
    let pending = this.#pending.get(socket);
    if (!pending) this.#pending.set(socket, (pending = new Set()));
    if (pending.size >= maxPipelined) {
      this.#flooded(socket);
      return false;
    }
    pending.add(response);
    response.once("close", () => {
      pending.delete(response);
      // The rest of the request has no reader.
      if (!request.complete) this.closeLate(socket);
      if (pending.size === 0 && !socket.destroyed) this.#add(socket);
    });
    return true;
  }

  /** Exempts the connection from eviction until the response ends. */
  vouchFor(request: IncomingMessage): void {
    this.#unproven.delete(request.socket);
  }

  /** @returns whether to parse the chunk. */
  accepts(socket: Socket, chunk: Buffer): boolean {
    if (!this.#unproven.has(socket) || !beginsMoreThan(maxPipelined, chunk)) return true;
    this.#flooded(socket);
    return false;
  }

  upgraded(socket: Socket): void {
    this.#unproven.delete(socket);
    if (this.#pending.get(socket)?.size === 0) this.#pending.delete(socket);
  }

  /** Whether a response has begun. */
  isAnswering(socket: Socket): boolean {
    return [...(this.#pending.get(socket) ?? [])].some(({ headersSent }) => headersSent);
  }

  /** Reads no more, and closes after a delay: a peer whose connection is closed at once reconnects at once. */
  closeLate(socket: Socket): void {
    if (socket.destroyed || this.#closing.has(socket)) return;
    this.#closing.add(socket);
    stopReading(socket);
    this.#refusalDelay.before(() => socket.destroy());
  }

  #add(socket: Socket): void {
    this.#unproven.add(socket, networkOf(socket.remoteAddress ?? ""));
  }

  #flooded(socket: Socket): void {
    this.#onClosed("pipelined");
    this.closeLate(socket);
  }

  #evict(socket: Socket): void {
    this.#unproven.delete(socket);
    this.#onClosed("crowded");
    socket.destroy();
  }
}
