/** How long a node waits for a client that gives no sign of life. */
export interface Patience {
  /** Between a client's answer and the next ping. */
  readonly pingIntervalMs: number;
  /** For the answer to a ping; after it the client is gone. */
  readonly pingTimeoutMs: number;
  /** Between two looks at what waits for clients. */
  readonly stallCheckMs: number;
  /** Looks in a row at which a client has taken nothing of what waits for it. Not a time: a node may itself have been frozen. */
  readonly stallChecks: number;
}

/**
 * 30 s without taking anything: longer than the time to answer a ping, which is queued behind what is not taken. So this
 * ends no connection that the pings let live, but for a client that answers pings it has not read. Shorter than a ping's
 * interval and timeout together, within which a frozen client is found.
 */
export const defaultPatience: Patience = {
  pingIntervalMs: 25_000,
  pingTimeoutMs: 20_000,
  stallCheckMs: 5_000,
  stallChecks: 6,
};
