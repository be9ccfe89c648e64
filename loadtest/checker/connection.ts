/** The connection of a stock Socket.IO client that reconnects to a random node, whatever ends it. */
import { io, type Socket } from "socket.io-client";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";

export interface ConnectionOptions {
  readonly urls: readonly string[];
  readonly token: string;
  /** Longest pause between two tries. */
  readonly reconnectMs: number;
  /** From 0 to 1; draws the node and the pauses. */
  readonly random: () => number;
  readonly onWelcome: () => void;
  /** Events of the current connection, `sync:welcome` aside. */
  readonly onEvent?: (event: string, data: unknown, meta: unknown) => void;
  readonly onLeft?: (why: string) => void;
}

const connectWithinMs = 10_000;
/** Limit of the time that a refusal may ask for. */
const maxRetryAfterMs = 5_000;

export class Connection {
  readonly #options: ConnectionOptions;
  #socket: Socket | undefined;
  #url = "";
  #welcomed = false;
  #stopped = false;
  #reconnectTimer: NodeJS.Timeout | undefined;
  connects = 0;
  /** Why the connection ended, or was refused, last. */
  lastEnd = "";

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Undefined before the welcome, and while there is no connection. */
  get socket(): Socket | undefined {
    return this.#welcomed ? this.#socket : undefined;
  }

  /** Of the node that it is connected to, or was last. */
  get url(): string {
    return this.#url;
  }

  get connected(): boolean {
    return this.#socket?.connected ?? false;
  }

  start(): void {
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#reconnectTimer);
    this.#leave("stopped");
  }

  /** Drops the connection and reconnects, to a random node. */
  drop(): void {
    this.#leave("dropped");
    this.#connectSoon();
  }

  /** A random part of the longest pause. */
  pauseMs(retryAfterMs = 0): number {
    return Math.min(retryAfterMs, maxRetryAfterMs) + this.#options.random() * this.#options.reconnectMs;
  }

  #connect(): void {
    const { urls, token, random, onEvent, onWelcome } = this.#options;
    this.#url = urls[Math.floor(random() * urls.length)] ?? "";
    const socket = io(this.#url, {
      ...{ transports: ["websocket"], auth: { token }, forceNew: true, reconnection: false },
      timeout: connectWithinMs,
    });
    this.#socket = socket;
    const left = (why: string, retryAfterMs?: number): void => {
      if (this.#socket !== socket) return;
      this.#leave(why);
      this.#connectSoon(retryAfterMs);
    };
    socket.once("connect_error", (error: Error & { data?: ConnectRefusal }) => {
      left(error.data?.code ?? error.message, error.data?.retryAfterMs);
    });
    socket.once("disconnect", (reason) => left(reason));
    socket.onAny((event: string, data: unknown, meta: unknown) => {
      if (this.#socket !== socket) return;
      if (event === "sync:welcome") {
        this.connects++;
        this.#welcomed = true;
        onWelcome();
      } else onEvent?.(event, data, meta);
    });
  }

  #leave(why: string): void {
    const socket = this.#socket;
    this.lastEnd = why;
    this.#socket = undefined;
    this.#welcomed = false;
    socket?.disconnect();
    this.#options.onLeft?.(why);
  }

  #connectSoon(retryAfterMs?: number): void {
    if (this.#stopped) return;
    clearTimeout(this.#reconnectTimer);
    this.#reconnectTimer = setTimeout(() => {
      if (!this.#socket) this.#connect();
    }, this.pauseMs(retryAfterMs));
  }
}
