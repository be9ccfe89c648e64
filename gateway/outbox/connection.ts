import type { Frame } from "./frames.ts";

/** A client's connection. The engine implements it, over websocket or polling; no other room knows what carries it. */
export interface Connection {
  /** Of the client, as the trusted proxies tell it. */
  readonly address: string;
  /** When the client requested the connection, by `performance.now()`. */
  readonly requestedAt: number;
  readonly isOpen: boolean;
  /** Grows while the network takes what was written, also before `sent` is called. */
  readonly takenBytes: number;
  /** Calls `sent` once this packet and everything before it has left for the network. Only the outbox writes. */
  write(packet: string, options: Frame["options"], sent?: () => void): unknown;
  /**
   * Closes in order, after what was written.
   * @param announce sends a Socket.IO DISCONNECT, after which a stock client does not reconnect.
   * @param whenClosed called once, with whether the peer has taken everything.
   */
  close(announce: boolean, whenClosed?: (taken: boolean) => void): void;
  /** Resets the connection now; drops what waits to be sent or read. */
  terminate(): void;
  /** Calls back once, when the connection has closed; `timedOut`: the client did not answer a ping in time. */
  onClosed(listener: (timedOut: boolean) => void): void;
}
