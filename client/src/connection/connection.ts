/** One connection to the gateway, and the only module that knows socket.io-client. */
import { Manager, type Socket } from "socket.io-client";
import type { ConnectRefusal } from "../../../shared/protocol/codes.ts";
import type { Ack, Disconnect, Welcome, WireError } from "../../../shared/protocol/wire.ts";
import type { TidegateError } from "../api/errors.ts";
import { maxTimerMs } from "./timing.ts";

/** From the first packet to the welcome. The gateway itself takes 8 s at most; the rest is for the way there. */
const welcomeDeadlineMs = 15_000;

const requestDeadlineMs = 15_000;

/** How a connection ended, if not by `close()`. */
export type Ending =
  | { kind: "refused"; refusal: WireError | TidegateError }
  | { kind: "dismissed"; disconnect: Disconnect }
  | { kind: "lost"; message: string }
  /** After `leave()`. */
  | { kind: "left" };

export interface ConnectionCallbacks {
  welcomed(welcome: Welcome): void;
  /** Every other event of the gateway, in order. */
  received(event: string, data: unknown, meta: unknown): void;
  /** Once; nothing else follows it but the failures of what was in flight. */
  ended(ending: Ending): void;
}

/** What the rest of the SDK uses of a connection, under the promises of {@link Connection}. */
export type GatewayConnection = Pick<Connection, "open" | "request" | "leave" | "close">;

/**
 * Used once: for the next try there is a new one, so that nothing that socket.io-client still buffers for this one
 * can ever be sent later.
 */
export class Connection {
  readonly #socket: Socket;
  readonly #callbacks: ConnectionCallbacks;
  readonly #inFlight = new Set<(ack: Ack<never>) => void>();
  #welcomeTimer: ReturnType<typeof setTimeout> | undefined;
  #leaveTimer: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(url: string, auth: Record<string, unknown>, callbacks: ConnectionCallbacks) {
    this.#callbacks = callbacks;
    const manager = new Manager(url, { transports: ["websocket"], reconnection: false, autoConnect: false });
    this.#socket = manager.socket("/", { auth });
  }

  open(): void {
    const lost = (message: string): void => this.#end({ kind: "lost", message });
    this.#welcomeTimer = setTimeout(() => lost("no welcome in time"), welcomeDeadlineMs);
    this.#socket.onAny((event: string | number, data: unknown, meta: unknown) => {
      if (event === "sync:welcome") {
        clearTimeout(this.#welcomeTimer);
        this.#callbacks.welcomed(data as Welcome);
      } else if (event === "sync:disconnect") {
        this.#end({ kind: "dismissed", disconnect: data as Disconnect });
      } else {
        // Socket.IO hands numeric names over as numbers.
        this.#callbacks.received(String(event), data, meta);
      }
    });
    this.#socket.on("connect_error", (error: Error & { data?: ConnectRefusal }) => {
      if (typeof error.data?.code === "string") this.#end({ kind: "refused", refusal: error.data });
      else lost(error.message);
    });
    this.#socket.on("disconnect", (reason) => {
      // A DISCONNECT packet is the gateway's "do not come back", even where its word before got lost.
      if (reason !== "io server disconnect") return lost(reason);
      this.#end({ kind: "dismissed", disconnect: { code: "disconnected", reason, reconnect: false } });
    });
    this.#socket.connect();
  }

  /**
   * `answered` is called once, as soon as the ack is read: before any event that the gateway sent after it (a promise
   * would be too late for that). It is given `not_connected` where nothing was sent, `upstream_timeout` where the
   * answer did not come: what the gateway did is then unknown.
   */
  request<T extends object>(
    event: string,
    args: readonly unknown[],
    answered: (ack: Ack<T>) => void,
    deadlineMs = requestDeadlineMs,
  ): void {
    if (this.#over || !this.#socket.connected) return answered(failure("not_connected", "there is no connection"));
    const settle = (ack: Ack<T>): void => {
      if (!this.#inFlight.delete(settle)) return;
      clearTimeout(timer);
      answered(ack);
      this.#leaveIfIdle();
    };
    const timer = setTimeout(() => settle(failure("upstream_timeout", "no answer in time")), deadlineMs);
    this.#inFlight.add(settle);
    this.#socket.emit(event, ...args, settle);
  }

  /** Says goodbye as soon as nothing is in flight, after `withinMs` at the latest. Nothing is requested any more. */
  leave(withinMs: number): void {
    if (this.#over) return;
    this.#leaveTimer = setTimeout(() => this.#left(), Math.min(withinMs, maxTimerMs));
    this.#leaveIfIdle();
  }

  /** Says goodbye, so that the gateway need not wait for a return. What is in flight fails; `ended` is not called. */
  close(): void {
    if (this.#over) return;
    this.#tearDown(() => this.#socket.disconnect());
    this.#failInFlight();
  }

  #leaveIfIdle(): void {
    if (this.#leaveTimer !== undefined && this.#inFlight.size === 0) this.#left();
  }

  #left(): void {
    if (this.#over) return;
    this.#tearDown(() => this.#socket.disconnect());
    this.#callbacks.ended({ kind: "left" });
    this.#failInFlight();
  }

  #end(ending: Ending): void {
    if (this.#over) return;
    // A DISCONNECT packet would say that this session is not coming back: a working transport is closed without one.
    this.#tearDown(() => (this.#socket.connected ? this.#socket.io.engine.close() : this.#socket.disconnect()));
    this.#callbacks.ended(ending);
    this.#failInFlight();
  }

  #tearDown(closeTransport: () => void): void {
    this.#over = true;
    clearTimeout(this.#welcomeTimer);
    clearTimeout(this.#leaveTimer);
    this.#socket.off();
    this.#socket.offAny();
    closeTransport();
  }

  #failInFlight(): void {
    const ack = failure("upstream_timeout", "the connection was lost before the answer came; the outcome is unknown");
    for (const settle of [...this.#inFlight]) settle(ack);
  }
}

function failure(code: "not_connected" | "upstream_timeout", message: string): Ack<never> {
  return { ok: false, error: { code, message, retryable: true } };
}
