/** The connections of a door: how many there may be, and which one gives way when there are too many. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { FairPool } from "../fair-pool.ts";
import { networkOf } from "../network.ts";

export interface ConnectionBounds {
  /** Open at once, of whatever kind. */
  total: number;
  /** Of those: that have proven nothing yet. They sent no request, part of one, or one that asks for little. */
  unproven: number;
}

/** Requests of one connection that are answered at once. Clients that we know of send the next one after the answer. */
const maxPipelined = 16;

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
    if (socket.destroyed) return false;
    const pending = this.#pending.get(socket) ?? new Set();
    if (pending.size >= maxPipelined) {
      this.#close(socket, "pipelined");
      return false;
    }
    this.#pending.set(socket, pending.add(response));
    response.once("close", () => {
      pending.delete(response);
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

  #close(socket: Socket, closure: Closure): void {
    this.#unproven.delete(socket);
    this.#onClosed(closure);
    socket.destroy();
  }
}
