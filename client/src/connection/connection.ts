/** One connection to the gateway. No other module imports socket.io-client. */
import { Manager, type Socket } from "socket.io-client";
import type { ConnectRefusal } from "../../../shared/protocol/codes.ts";
import type { Ack, Disconnect, Welcome } from "../../../shared/protocol/wire.ts";
import type { Requester } from "../calls/requester.ts";
import type { ConnectionEnd } from "./connection-end.ts";
import { maxTimerMs } from "../calls/backoff.ts";

/** From the first packet to the welcome. The gateway takes 8 s at most; the rest is for the network. */
const welcomeDeadlineMs = 15_000;

const requestDeadlineMs = 15_000;

/** A node learns at once that a session has moved, unless its store is away; one of an earlier version does not say so. */
const movedDeadlineMs = 5_000;

export interface ConnectionCallbacks {
  welcomed(welcome: Welcome): void;
  /** Every other event of the gateway, in order. */
  received(event: string, data: unknown, meta: unknown): void;
  /** Called once, and not after `close()`. Only the failures of open requests follow it. */
  ended(end: ConnectionEnd): void;
}

/** What the rest of the SDK uses of {@link Connection}; each implementation keeps its guarantees. */
export type GatewayConnection = Pick<Connection, "open" | "request" | "closeWhenIdle" | "close">;

/** How a connection is made; a test passes its own. */
export type Connector = (
  url: string,
  auth: Record<string, unknown>,
  callbacks: ConnectionCallbacks,
) => GatewayConnection;

/** Used for one attempt only, so that nothing buffered by socket.io-client can be sent on a later connection. */
export class Connection implements Requester {
  readonly #socket: Socket;
  readonly #callbacks: ConnectionCallbacks;
  readonly #inFlight = new Set<(ack: Ack<never>) => void>();
  #welcomeTimer: ReturnType<typeof setTimeout> | undefined;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  #movedTimer: ReturnType<typeof setTimeout> | undefined;
  /** The gateway sends no more messages to the user here. */
  #moved = false;
  #over = false;

  constructor(url: string, auth: Record<string, unknown>, callbacks: ConnectionCallbacks) {
    this.#callbacks = callbacks;
    const manager = new Manager(url, { transports: ["websocket"], reconnection: false, autoConnect: false });
    this.#socket = manager.socket("/", { auth });
  }

  open(): void {
    const lost = (message: string): void => this.#end({ kind: "lost", message });
    this.#welcomeTimer = setTimeout(() => lost("timed out waiting for the welcome"), welcomeDeadlineMs);
    this.#socket.onAny((event: string | number, data: unknown, meta: unknown) => {
      if (event === "sync:welcome") {
        clearTimeout(this.#welcomeTimer);
        this.#callbacks.welcomed(data as Welcome);
      } else if (event === "sync:disconnect") {
        this.#end({ kind: "disconnected", disconnect: data as Disconnect });
      } else if (event === "sync:moved") {
        this.#hasMoved();
      } else {
        // Socket.IO passes numeric names as numbers.
        this.#callbacks.received(String(event), data, meta);
      }
    });
    this.#socket.on("connect_error", (error: Error & { data?: ConnectRefusal }) => {
      if (typeof error.data?.code === "string") this.#end({ kind: "refused", refusal: error.data });
      else lost(error.message);
    });
    this.#socket.on("disconnect", (reason) => {
      // With a DISCONNECT packet the gateway forbids a reconnect, even if the `sync:disconnect` before it was lost.
      if (reason !== "io server disconnect") return lost(reason);
      this.#end({ kind: "disconnected", disconnect: { code: "disconnected", reason, reconnect: false } });
    });
    this.#socket.connect();
  }

  request<T extends object>(
    event: string,
    args: readonly unknown[],
    answered: (ack: Ack<T>) => void,
    deadlineMs = requestDeadlineMs,
  ): void {
    if (this.#over || !this.#socket.connected) return answered(failure("not_connected", "not connected"));
    const settle = (ack: Ack<T>): void => {
      if (!this.#inFlight.delete(settle)) return;
      clearTimeout(timer);
      answered(ack);
      this.#closeIfIdle();
    };
    const timer = setTimeout(() => settle(failure("upstream_timeout", "timed out")), deadlineMs);
    this.#inFlight.add(settle);
    this.#socket.emit(event, ...args, settle);
  }

  /**
   * The session has moved: closes once every message to the user has arrived and all requests are answered, after `withinMs` at
   * the latest. The caller sends no more requests.
   */
  closeWhenIdle(withinMs: number): void {
    if (this.#over) return;
    this.#idleTimer = setTimeout(() => this.#closed(), Math.min(withinMs, maxTimerMs));
    this.#movedTimer = setTimeout(() => this.#hasMoved(), movedDeadlineMs);
    this.#closeIfIdle();
  }

  /** Sends a DISCONNECT packet, so that the gateway ends the session at once. Open requests fail; no `ended`. */
  close(): void {
    if (this.#over) return;
    this.#tearDown(() => this.#socket.disconnect());
    this.#failInFlight();
  }

  #hasMoved(): void {
    this.#moved = true;
    this.#closeIfIdle();
  }

  #closeIfIdle(): void {
    if (this.#idleTimer !== undefined && this.#moved && this.#inFlight.size === 0) this.#closed();
  }

  #closed(): void {
    if (this.#over) return;
    this.#tearDown(() => this.#socket.disconnect());
    this.#callbacks.ended({ kind: "closed" });
    this.#failInFlight();
  }

  #end(end: ConnectionEnd): void {
    if (this.#over) return;
    // A DISCONNECT packet would end the session: close a working transport without one.
    this.#tearDown(() => (this.#socket.connected ? this.#socket.io.engine.close() : this.#socket.disconnect()));
    this.#callbacks.ended(end);
    this.#failInFlight();
  }

  #tearDown(closeTransport: () => void): void {
    this.#over = true;
    clearTimeout(this.#welcomeTimer);
    clearTimeout(this.#idleTimer);
    clearTimeout(this.#movedTimer);
    this.#socket.off();
    this.#socket.offAny();
    closeTransport();
  }

  #failInFlight(): void {
    const ack = failure("upstream_timeout", "the connection was lost before the answer; the outcome is unknown");
    for (const settle of [...this.#inFlight]) settle(ack);
  }
}

function failure(code: "not_connected" | "upstream_timeout", message: string): Ack<never> {
  return { ok: false, error: { code, message, retryable: true } };
}
