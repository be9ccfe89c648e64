/** How clients of each kind time their tries. The SDK's times come from its own source. */
import { backoffDelayMs, type Random } from "../../client/src/connection/timing.ts";

export interface ClientKind {
  readonly title: string;
  /** Keeps to windows and slots, and backs off with full jitter. */
  readonly isSdk: boolean;
  /** Presents its resume token. Others come by their token: the services are asked. */
  readonly resumes: boolean;
  /** Tries again when a refusal says so, not when its own backoff is over. */
  readonly obeysRetryAfter: boolean;
  /** From the dial to the welcome; then it gives up and tries again. */
  readonly connectTimeoutMs: number;
}

const stock = { isSdk: false, resumes: false, obeysRetryAfter: false, connectTimeoutMs: 20_000 };
const sdk = { isSdk: true, resumes: true, obeysRetryAfter: true, connectTimeoutMs: 15_000 };

/**
 * A stock client does not try again by itself after a refusal in band: the application calls `connect()`. `stock` is an
 * application that does so by the library's own backoff, as python-socketio does; `stock-obeying` one that waits `retryAfterMs`.
 */
export const clientKinds = {
  stock: { ...stock, title: "stock client" },
  "stock-obeying": { ...stock, obeysRetryAfter: true, title: "stock client that obeys retryAfterMs" },
  "stock-resuming": { ...stock, resumes: true, title: "stock client that resumes" },
  "full-jitter": { ...sdk, title: "SDK: window, full jitter, retryAfterMs" },
  slots: { ...sdk, title: "SDK, moving in the server's slots" },
} satisfies Record<string, ClientKind>;

export type ClientKindName = keyof typeof clientKinds;

/** Why a new try is due. */
export interface Setback {
  /** Tries that have failed since the last success that counts. */
  readonly failures: number;
  /** The window the last welcome or policy gave, where a session broke; -1: none did. */
  readonly windowMs: number;
  /** The last window it was told, then or earlier; 0: none. While the fleet is down, tries are spread as wide. */
  readonly lastWindowMs: number;
  /** What the refusal asks for; -1: nothing. */
  readonly retryAfterMs: number;
}

/** A connection that lasted less does not reset the backoff of an SDK client; any resets a stock client's. */
export const lastingMs = 10_000;
const minRetryAfterMs = 100;
const maxBackoffMs = 30_000;

/** Milliseconds until the next try. */
export function retryDelayMs(kind: ClientKind, setback: Setback, random: Random): number {
  const { failures, windowMs, lastWindowMs, retryAfterMs } = setback;
  if (kind.obeysRetryAfter && retryAfterMs >= 0) return Math.max(minRetryAfterMs, retryAfterMs);
  if (!kind.isSdk) return stockDelayMs(failures, random);
  const backoffMs = backoffDelayMs(failures, random, Math.max(maxBackoffMs, lastWindowMs));
  if (windowMs < 0) return backoffMs;
  const inWindowMs = random() * windowMs;
  return failures === 0 ? inWindowMs : Math.max(inWindowMs, backoffMs);
}

const stockFirstMs = 1_000;
const stockMaxMs = 5_000;
const stockJitter = 0.5;

/** As socket.io-client 4 does: 1 s, doubled each time, half of it more or less, 5 s at most. */
export function stockDelayMs(failures: number, random: Random): number {
  const delayMs = stockFirstMs * 2 ** Math.min(failures, 16);
  const draw = random();
  const deviationMs = Math.floor(draw * stockJitter * delayMs);
  const jittered = (Math.floor(draw * 10) & 1) === 0 ? delayMs - deviationMs : delayMs + deviationMs;
  return Math.trunc(Math.min(jittered, stockMaxMs));
}
