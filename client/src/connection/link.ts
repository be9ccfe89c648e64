import type { Drain, ReconnectPolicy, Welcome } from "../../../shared/protocol/wire.ts";
import type { GatewayConnection } from "./connection.ts";
import type { Refresh } from "./refresh.ts";

/** A drain, as it was told: moments by `performance.now()`. */
export interface DrainOrder {
  readonly dueAtMs: number;
  readonly deadlineAtMs: number;
  readonly url: string | undefined;
}

/** One try for a connection and, if it is welcomed, its use: what belongs to that connection alone. */
export class Link {
  readonly #refresh: Refresh;
  #connection: GatewayConnection | null = null;
  #welcome: { said: Welcome; atMs: number } | null = null;
  /** How to return after its loss: the gateway's newest word. */
  policy: ReconnectPolicy | undefined;
  drain: DrainOrder | null = null;

  constructor(refresh: Refresh) {
    this.#refresh = refresh;
  }

  open(connection: GatewayConnection): void {
    this.#connection = connection;
    connection.open();
  }

  welcomed(welcome: Welcome): void {
    this.#welcome = { said: welcome, atMs: performance.now() };
    this.policy = welcome.reconnect;
  }

  get connection(): GatewayConnection {
    if (!this.#connection) throw new Error("not opened yet");
    return this.#connection;
  }

  /** What it was welcomed with; `null` as long as it is only tried. */
  get welcome(): Welcome | null {
    return this.#welcome?.said ?? null;
  }

  /** Since its welcome. */
  get lastedMs(): number {
    return this.#welcome ? performance.now() - this.#welcome.atMs : 0;
  }

  /** It is the newest one: it keeps the session alive. */
  keepFresh(): void {
    if (this.#welcome) this.#refresh.start(this.connection, this.#welcome.said.expiresAt);
  }

  rest(): void {
    this.#refresh.stop();
  }

  /** Says goodbye when what is in flight has been answered, at the drain's deadline at the latest. */
  leave(): void {
    this.connection.leave(Math.max(0, (this.drain?.deadlineAtMs ?? 0) - performance.now()));
  }

  close(): void {
    this.rest();
    this.#connection?.close();
  }
}

/** `null` where the words are not those of a drain. */
export function readDrain(word: unknown): DrainOrder | null {
  const { reconnectInMs, deadlineInMs, url } = (word ?? {}) as Partial<Drain>;
  if (typeof reconnectInMs !== "number" || typeof deadlineInMs !== "number") return null;
  const nowMs = performance.now();
  return {
    dueAtMs: nowMs + reconnectInMs,
    deadlineAtMs: nowMs + deadlineInMs,
    url: typeof url === "string" ? url : undefined,
  };
}
