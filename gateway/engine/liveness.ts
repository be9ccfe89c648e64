/** How long a node waits for a client that shows no sign of life. */
export interface Liveness {
  /** From a client's pong to the next ping. */
  readonly pingIntervalMs: number;
  /** For the pong; past it the connection is closed. */
  readonly pingTimeoutMs: number;
  /** Between two checks of what waits for clients. */
  readonly stallCheckMs: number;
  /** Checks in a row at which a client has taken nothing. A count, not a time: the node itself may have been frozen. */
  readonly stallChecks: number;
}

/**
 * A client that takes nothing for 30 s is cut: longer than the ping timeout, as a ping queues behind what is not taken. So
 * this only ends connections that the pings would end as well, and those of clients that answer pings they have not read.
 * Shorter than ping interval and timeout together, within which a frozen client is found.
 */
export const defaultLiveness: Liveness = {
  pingIntervalMs: 25_000,
  pingTimeoutMs: 20_000,
  stallCheckMs: 5_000,
  stallChecks: 6,
};
