import type { ConnectionCallbacks, GatewayConnection } from "../../client/src/connection/connection.ts";
import type { ConnectionEnd } from "../../client/src/connection/connection-end.ts";
import type { Ack, Position } from "../../shared/protocol/wire.ts";

export type AnyAck = Ack<Record<string, unknown>>;

export interface Request {
  event: string;
  args: readonly unknown[];
  /** Which of the application's wishes for the channel it is for. */
  wish: number;
  settle: (ack: AnyAck) => void;
}

/** What the gateway delivers of a channel on one connection. */
export interface Stream {
  /** Which of the application's wishes it answers; -1: one that the client has asked anew elsewhere. */
  wish: number;
  /** How far it was sent. */
  at: Position;
}

/** What it tells the world. */
export interface Gateway {
  /** A request. Returns `Request.wish`. */
  sent(connection: ModelConnection, event: string, args: readonly unknown[]): number;
  /** The client leaves as soon as nothing is in flight. */
  left(connection: ModelConnection, withinMs: number): void;
  /** The client says goodbye at once. */
  closed(): void;
}

/** As the real one, but for the wire: what it promises is what `Connection` promises. */
export class ModelConnection implements GatewayConnection {
  readonly auth: Record<string, unknown>;
  readonly callbacks: ConnectionCallbacks;
  readonly requests: Request[] = [];
  readonly live = new Map<string, Stream>();
  stage: "new" | "opening" | "welcomed" | "over" = "new";
  /** Was told to move. */
  drained = false;
  /** The client has left it, but for what is in flight. */
  leaving = false;
  readonly #gateway: Gateway;
  #leaveTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(auth: Record<string, unknown>, callbacks: ConnectionCallbacks, gateway: Gateway) {
    this.auth = auth;
    this.callbacks = callbacks;
    this.#gateway = gateway;
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
    const request: Request = { event, args, wish: -1, settle };
    this.requests.push(request);
    request.wish = this.#gateway.sent(this, event, args);
  }

  closeWhenIdle(withinMs: number): void {
    if (this.stage === "over") return;
    this.#gateway.left(this, withinMs);
    this.leaving = true;
    this.#leaveTimer = setTimeout(() => this.end({ kind: "closed" }), withinMs);
    this.#closeIfIdle();
  }

  close(): void {
    this.#gateway.closed();
    this.#over();
    this.#failRequests();
  }

  end(ending: ConnectionEnd): void {
    if (this.stage === "over") return;
    this.#over();
    this.callbacks.ended(ending);
    this.#failRequests();
  }

  #closeIfIdle(): void {
    if (this.leaving && this.requests.length === 0) this.end({ kind: "closed" });
  }

  #over(): void {
    this.stage = "over";
    clearTimeout(this.#leaveTimer);
  }

  #failRequests(): void {
    for (const { settle } of [...this.requests]) settle(failed("upstream_timeout"));
  }
}

export function failed(code: string, retryable = true): Ack<never> {
  return { ok: false, error: { code, message: code, retryable } };
}
