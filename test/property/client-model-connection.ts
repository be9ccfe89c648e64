/** The gateway's end of one connection in the model. Keeps the guarantees of `Connection`, without sockets. */
import type { ConnectionCallbacks, GatewayConnection } from "../../client/src/connection/connection.ts";
import type { ConnectionEnd } from "../../client/src/connection/connection-end.ts";
import type { Ack, Position } from "../../shared/protocol/wire.ts";

export type AnyAck = Ack<Record<string, unknown>>;

export interface Request {
  event: string;
  args: readonly unknown[];
  /** The application's subscribe that this request carries out, by its number; -1: none. */
  subscribe: number;
  settle: (ack: AnyAck) => void;
}

/** What the gateway delivers of a channel on one connection. */
export interface Stream {
  /** The application's subscribe that this stream answers, by its number; -1: the client has repeated it elsewhere. */
  subscribe: number;
  /** The last position sent. */
  at: Position;
}

/** Called by a connection. */
export interface ConnectionObserver {
  /** Returns `Request.subscribe`. */
  sent(connection: ModelConnection, event: string, args: readonly unknown[]): number;
  closingWhenIdle(connection: ModelConnection, withinMs: number): void;
  closing(): void;
}

export class ModelConnection implements GatewayConnection {
  readonly auth: Record<string, unknown>;
  readonly callbacks: ConnectionCallbacks;
  readonly requests: Request[] = [];
  readonly live = new Map<string, Stream>();
  stage: "new" | "opening" | "welcomed" | "over" = "new";
  /** The gateway has sent `sync:drain`. */
  drained = false;
  /** The gateway has refused a call for its rate: the client may hold further calls back. */
  limited = false;
  /** The client closes it once its requests are answered. */
  leaving = false;
  readonly #observer: ConnectionObserver;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(auth: Record<string, unknown>, callbacks: ConnectionCallbacks, observer: ConnectionObserver) {
    this.auth = auth;
    this.callbacks = callbacks;
    this.#observer = observer;
  }

  open(): void {
    this.stage = "opening";
  }

  request<T extends object>(
    event: string,
    args: readonly unknown[],
    answered: (ack: Ack<T>) => void,
    deadlineMs = 15_000,
  ): void {
    if (this.stage !== "welcomed") return answered(failed("not_connected"));
    const timer = setTimeout(() => settle(failed("upstream_timeout")), deadlineMs);
    const settle = (ack: AnyAck): void => {
      const index = this.requests.indexOf(request);
      if (index < 0) return;
      this.requests.splice(index, 1);
      clearTimeout(timer);
      answered(ack);
      this.#closeIfIdle();
    };
    const request: Request = { event, args, subscribe: -1, settle };
    this.requests.push(request);
    request.subscribe = this.#observer.sent(this, event, args);
  }

  closeWhenIdle(withinMs: number): void {
    if (this.stage === "over") return;
    this.#observer.closingWhenIdle(this, withinMs);
    this.leaving = true;
    this.#idleTimer = setTimeout(() => this.end({ kind: "closed" }), withinMs);
    this.#closeIfIdle();
  }

  close(): void {
    this.#observer.closing();
    this.#over();
    this.#failRequests();
  }

  end(end: ConnectionEnd): void {
    if (this.stage === "over") return;
    this.#over();
    this.callbacks.ended(end);
    this.#failRequests();
  }

  #closeIfIdle(): void {
    if (this.leaving && this.requests.length === 0) this.end({ kind: "closed" });
  }

  #over(): void {
    this.stage = "over";
    clearTimeout(this.#idleTimer);
  }

  #failRequests(): void {
    for (const { settle } of [...this.requests]) settle(failed("upstream_timeout"));
  }
}

export function failed(code: string, retryable = true): Ack<never> {
  return { ok: false, error: { code, message: code, retryable } };
}
