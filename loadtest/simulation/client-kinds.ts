/** The reconnect timing of each kind of client. The SDK's times come from its own source. */
import { backoffDelayMs, type Random } from "../../client/src/calls/backoff.ts";

export interface ClientKind {
  readonly title: string;
  /** Spreads reconnects over the window, keeps reconnect times, and backs off with full jitter. */
  readonly isSdk: boolean;
  /** Presents its resume token. Other clients present their token, and the connect hook is called. */
  readonly resumes: boolean;
  /** Waits for the `retryAfterMs` of a refusal instead of its own backoff. */
  readonly obeysRetryAfter: boolean;
  /** From the dial to the welcome; then the client gives up and retries. */
  readonly connectTimeoutMs: number;
}

const stock = { isSdk: false, resumes: false, obeysRetryAfter: false, connectTimeoutMs: 20_000 };
const sdk = { isSdk: true, resumes: true, obeysRetryAfter: true, connectTimeoutMs: 15_000 };

/**
 * A stock client does not retry by itself after a refused handshake: the application calls `connect()`. The application of
 * `stock` does so after the library's own backoff, as python-socketio does; that of `stock-obeying` waits `retryAfterMs`.
 */
export const clientKinds = {
  stock: { ...stock, title: "stock client" },
  "stock-obeying": { ...stock, obeysRetryAfter: true, title: "stock client that obeys retryAfterMs" },
  "stock-resuming": { ...stock, resumes: true, title: "stock client that resumes" },
  "full-jitter": { ...sdk, title: "SDK: window, full jitter, retryAfterMs" },
  slots: { ...sdk, title: "SDK, moving at the server's reconnect times" },
} satisfies Record<string, ClientKind>;

export type ClientKindName = keyof typeof clientKinds;

/** Why a client has to retry. */
export interface RetryCause {
  /** Failed tries since the last lasting connection. */
  readonly failures: number;
  /** The reconnect window of the last welcome or policy, where a session broke; -1: no session broke. */
  readonly windowMs: number;
  /** The last window that the client knows, 0: none. Tries stay spread over it while the fleet is down. */
  readonly lastWindowMs: number;
  /** The time that the refusal named; -1: none. */
  readonly retryAfterMs: number;
}

/** A shorter connection does not reset the backoff of an SDK client; any connection resets that of a stock client. */
export const lastingMs = 10_000;
const minRetryAfterMs = 100;
const maxBackoffMs = 30_000;

/** @returns ms until the next try. */
export function retryDelayMs(kind: ClientKind, cause: RetryCause, random: Random): number {
  const { failures, windowMs, lastWindowMs, retryAfterMs } = cause;
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

/** The backoff of socket.io-client 4: 1 s, doubled each time, ± 50 %, at most 5 s. */
export function stockDelayMs(failures: number, random: Random): number {
  const delayMs = stockFirstMs * 2 ** Math.min(failures, 16);
  const draw = random();
  const deviationMs = Math.floor(draw * stockJitter * delayMs);
  const jittered = (Math.floor(draw * 10) & 1) === 0 ? delayMs - deviationMs : delayMs + deviationMs;
  return Math.trunc(Math.min(jittered, stockMaxMs));
}
