import type { Ack } from "../../../shared/protocol/wire.ts";

/** Sends requests over one connection: all that calls and channels know of it. */
export interface Requester {
  /**
   * Calls `answered` once, synchronously as the ack is read, so before any event that the gateway sent after it (a
   * promise would resolve too late). Failures: `not_connected`, nothing was sent; `upstream_timeout`, no answer came,
   * the outcome is unknown.
   */
  request<T extends object>(
    event: string,
    args: readonly unknown[],
    answered: (ack: Ack<T>) => void,
    deadlineMs?: number,
  ): void;
}
