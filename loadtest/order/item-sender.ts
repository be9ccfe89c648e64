/** What emits the items of some keys: a client with a websocket, or a provider of webhooks. */
export interface ItemSender {
  readonly connected: boolean;
  readonly connects: number;
  /** Emits that were refused, or whose outcome stayed unknown. */
  readonly failures: number;
  /** By code. */
  readonly refusals: ReadonlyMap<string, number>;
  /** Why its last failure happened. */
  readonly lastEnd: string;
  start(): void;
  /** Gives up what is not acknowledged. */
  stop(): void;
  /** Cuts its connection. */
  drop(): void;
  /** Emits items of every key until the signal aborts; then every item is acknowledged, or {@link stop} was called. */
  run(signal: AbortSignal): Promise<void>;
  /** One more item of every key. */
  runOnce(): Promise<void>;
}
