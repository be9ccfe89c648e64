import type { TidegateError } from "./errors.ts";

export type ClientState =
  /** Fetching a token or an address, or opening a connection. */
  | { status: "connecting" }
  /**
   * `user` and `tenant` are those of the token. `resumed`: the gateway continues the session from before the reconnect;
   * channels recover either way. A move to another node repeats this state with the new `node`.
   */
  | { status: "connected"; sessionId: string; user: string; tenant?: string; node: string; resumed: boolean }
  /**
   * The next attempt begins `retryInMs` after this state began, in a browser without a network once that is back. Repeated
   * with a smaller `retryInMs` when the wait becomes shorter.
   */
  | { status: "waiting"; retryInMs: number; reason: TidegateError }
  /**
   * Final: `close()` was called (code `closed`), the signal of `connect()` aborted (`aborted`), or the gateway refused or
   * disconnected this client for good.
   */
  | { status: "closed"; reason: TidegateError };
