interface CommonCallOptions {
  /** Shortens the time that the service has for each try, in milliseconds. */
  timeoutMs?: number;
  /**
   * From the call to the last word on it, in milliseconds: waiting for a connection and all tries included. 60 s by
   * default where the call may wait or be repeated; without effect on others.
   */
  withinMs?: number;
  /** Made while not connected, it waits for the connection instead of failing: see `ClientOptions.offline`. */
  offline?: boolean;
}

export type CallOptions = CommonCallOptions &
  (
    | {
        /**
         * Makes a repeat recognisable to the service: give every try of one action the same `id`, at most 200
         * characters.
         */
        id?: string;
        repeat?: false;
      }
    | {
        id: string;
        /**
         * The service recognises `id`, so that doing it again does no harm: a retryable failure, an unknown outcome
         * included, is followed by another try with the same `id`.
         */
        repeat: true;
      }
  );

/** How many calls may wait, for a connection or for their next try; those that wait longest are kept. */
export interface OfflineBounds {
  /** 100 by default. */
  maxCalls?: number;
  /** UTF-8 bytes of their data as JSON; 256 KiB by default. */
  maxBytes?: number;
}
