import type { OfflineBounds } from "../api/call-options.ts";

export interface QueuedCall {
  /** Increases with each call of the client. */
  readonly order: number;
  readonly bytes: number;
}

/** Calls that wait for a connection or for their next try, bounded in number and bytes. */
export class CallQueue<Call extends QueuedCall> {
  readonly #maxCalls: number;
  readonly #maxBytes: number;
  readonly #calls = new Set<Call>();
  #bytes = 0;

  constructor({ maxCalls = 100, maxBytes = 256 * 1024 }: OfflineBounds = {}) {
    this.#maxCalls = maxCalls;
    this.#maxBytes = maxBytes;
  }

  /** False if the queue is full. Waiting calls are never evicted. */
  add(call: Call): boolean {
    if (this.#calls.size >= this.#maxCalls || this.#bytes + call.bytes > this.#maxBytes) return false;
    this.addBack(call);
    return true;
  }

  /** Also past the bounds: for a call that the gateway sent back, and that was in memory all the time. */
  addBack(call: Call): void {
    this.#calls.add(call);
    this.#bytes += call.bytes;
  }

  remove(call: Call): void {
    if (this.#calls.delete(call)) this.#bytes -= call.bytes;
  }

  /** In the order in which the application made them. */
  inOrder(): Call[] {
    return [...this.#calls].sort((a, b) => a.order - b.order);
  }
}
