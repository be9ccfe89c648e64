import type { ReconnectPolicy, Welcome } from "../../../shared/protocol/wire.ts";
import type { GatewayConnection } from "./connection.ts";
import type { DrainNotice } from "./drain.ts";
import type { TokenRefresh } from "./token-refresh.ts";

/** One attempt to connect and, after its welcome, that connection's own state. */
export class ConnectionAttempt {
  readonly #refresh: TokenRefresh;
  #connection: GatewayConnection | null = null;
  #welcome: { received: Welcome; atMs: number } | null = null;
  /** When to reconnect after a loss: the gateway's newest `ReconnectPolicy`. */
  policy: ReconnectPolicy | undefined;
  drain: DrainNotice | null = null;

  constructor(refresh: TokenRefresh) {
    this.#refresh = refresh;
  }

  open(connection: GatewayConnection): void {
    this.#connection = connection;
    connection.open();
  }

  welcomed(welcome: Welcome): void {
    this.#welcome = { received: welcome, atMs: performance.now() };
    this.policy = welcome.reconnect;
  }

  get connection(): GatewayConnection {
    if (!this.#connection) throw new Error("this attempt has not opened its connection");
    return this.#connection;
  }

  get welcome(): Welcome | null {
    return this.#welcome?.received ?? null;
  }

  /** Since the welcome; 0 without one. */
  get connectedMs(): number {
    return this.#welcome ? performance.now() - this.#welcome.atMs : 0;
  }

  /** Only the newest connection refreshes the token. */
  startRefresh(): void {
    if (this.#welcome) this.#refresh.start(this.connection, this.#welcome.received.expiresAt);
  }

  /** The gateway asks for a newer token. */
  askForToken(): void {
    this.#refresh.ask();
  }

  stopRefresh(): void {
    this.#refresh.stop();
  }

  /** Closes once nothing is on its way here any more, at the drain's deadline at the latest. */
  closeWhenIdle(): void {
    this.connection.closeWhenIdle(Math.max(0, (this.drain?.deadlineAtMs ?? 0) - performance.now()));
  }

  close(): void {
    this.stopRefresh();
    this.#connection?.close();
  }
}
