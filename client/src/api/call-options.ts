interface CommonCallOptions {
  /** Time that the service has for each try, in milliseconds. Can only shorten the route's own timeout. */
  timeoutMs?: number;
  /**
   * Time from the call to its final result, in milliseconds, all waiting and tries included. 60 s by default. For a call
   * without `offline` and `repeat`: time until it is sent.
   */
  withinMs?: number;
  /**
   * A call made while not connected waits for the connection instead of failing. Defaults to whether
   * `ClientOptions.offline` is set. A call that may have reached a service is not sent again, unless it sets `repeat`.
   */
  offline?: boolean;
  /** Ends the call: it fails with `aborted`. A call that was sent may have acted, and is not sent again. */
  signal?: AbortSignal;
}

export type CallOptions = CommonCallOptions &
  (
    | {
        /** Lets the service recognise a repeat: the same for each try of one action, at most 200 characters. */
        id?: string;
        repeat?: false;
      }
    | {
        id: string;
        /**
         * The service ignores or answers alike a second call with the same `id`. The client repeats the call after each
         * retryable failure, an unknown outcome included: after `retryAfterMs` plus a growing random delay, or once it is
         * connected again.
         */
        repeat: true;
      }
  );

/**
 * Bounds of the calls that wait, for a connection, their turn or their next try. Past a bound a new call fails with
 * `queue_full`, a call that was already sent with its last error. Calls wait in memory only.
 */
export interface OfflineBounds {
  /** 100 by default. */
  maxCalls?: number;
  /** Sum of their data as JSON, in UTF-8 bytes. 256 KiB by default. */
  maxBytes?: number;
}
