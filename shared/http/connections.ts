/** The connections of a door: how many there may be, and which one gives way when there are too many. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { FairPool } from "../runtime/fair-pool.ts";
import { networkOf } from "./network.ts";
import { beginsMoreThan, stopReading } from "./door-input.ts";
import { RefusalDelay } from "./refusal-delay.ts";

export interface ConnectionBounds {
  /** Open at once, of whatever kind. */
  total: number;
  /** Of those: that have proven nothing yet. They sent no request, part of one, or one that asks for little. */
  unproven: number;
}

/** Requests of one connection that are answered at once. Clients that we know of send the next one after the answer. */
const maxPipelined = 16;

/** Connections that are held before they are closed; past it they are closed at once. */
const maxHeld = 1_000;

/** Why the door closed a connection. */
export type Closure =
  /** Too many connections are unproven, and this one is the oldest of the address that has most. */
  | "crowded"
  /** All connections are proven, and there is no room for another. */
  | "full"
  | "pipelined"
  /** The request did not arrive in time. */
  | "late"
  /** What arrived is not HTTP. */
  | "malformed";

/**
 * Every connection begins unproven. Where there are too many of these, the address that has most of them loses its oldest
 * one, so that a newcomer from elsewhere finds room. A connection is out of that pool while a request that the door vouches
 * for is handled, and for good once it is upgraded: other bounds count it then.
 */
export class DoorConnections {
  readonly #bounds: ConnectionBounds;
  readonly #onClosed: (closure: Closure) => void;
  readonly #unproven = new FairPool<Socket>();
  readonly #refusalDelay = new RefusalDelay(maxHeld);
  /** Not read any more, and closed in a moment. */
  readonly #held = new WeakSet<Socket>();
  /** Responses under way, of the connections that have any. */
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
    // One place stays free, so that the next one is not refused while there is one that can give way.
    if (this.#unproven.size > this.#bounds.unproven || this.#total >= this.#bounds.total) this.#evict();
  }

  /** @returns false where the connection was closed instead. */
  requested(request: IncomingMessage, response: ServerResponse): boolean {
    const { socket } = request;
    if (socket.destroyed || this.#held.has(socket)) return false;
    const pending = this.#pending.get(socket) ?? new Set();
    if (pending.size >= maxPipelined) {
      this.#flooded(socket);
      return false;
    }
    this.#pending.set(socket, pending.add(response));
    response.once("close", () => {
      pending.delete(response);
      // Nobody takes the rest of the request.
      if (!request.complete) this.#hold(socket);
      if (pending.size > 0) return;
      this.#pending.delete(socket);
      if (!socket.destroyed) this.#add(socket);
    });
    return true;
  }

  /** Until the response ends. */
  vouchFor(request: IncomingMessage): void {
    this.#unproven.delete(request.socket);
  }

  /** @returns whether a chunk may be parsed. */
  accepts(socket: Socket, chunk: Buffer): boolean {
    if (this.#held.has(socket)) return false;
    if (!this.#unproven.has(socket) || !beginsMoreThan(maxPipelined, chunk)) return true;
    this.#flooded(socket);
    return false;
  }

  upgraded(socket: Socket): void {
    this.#unproven.delete(socket);
  }

  /** Whether a part of a response has been sent. */
  isAnswering(socket: Socket): boolean {
    return [...(this.#pending.get(socket) ?? [])].some(({ headersSent }) => headersSent);
  }

  #add(socket: Socket): void {
    this.#unproven.add(socket, networkOf(socket.remoteAddress ?? ""));
  }

  #evict(): void {
    const socket = this.#unproven.next;
    if (socket) this.#close(socket, "crowded");
  }

  #flooded(socket: Socket): void {
    this.#onClosed("pipelined");
    this.#hold(socket);
  }

  /** A connection that was closed at once would be back at once. */
  #hold(socket: Socket): void {
    if (socket.destroyed || this.#held.has(socket)) return;
    this.#held.add(socket);
    stopReading(socket);
    this.#refusalDelay.before(() => socket.destroy());
  }

  #close(socket: Socket, closure: Closure): void {
    this.#unproven.delete(socket);
    this.#onClosed(closure);
    socket.destroy();
  }
}
