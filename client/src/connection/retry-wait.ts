import type { Random } from "../calls/backoff.ts";
import { PageEvents } from "./page-events.ts";

/** Attempts that the page or the application asks for begin no closer together. */
const minBetweenMs = 1_000;
/** Smaller gains are not worth another wait. */
const minGainMs = 100;
/** The browsers of one office are back online at the same moment. */
const onlineSpreadMs = 1_000;
/** The client notices a dead connection up to 45 s late: pings come every 25 s, and it waits for one 20 s longer. */
const localLossMs = 60_000;

interface RetryWaitOptions {
  random: Random;
  /** The gateway is on this machine: reached without a network. */
  isLoopback(): boolean;
  /** The wait has ended. */
  connect(): void;
  /** The wait became shorter. */
  shortened(retryInMs: number): void;
  /** The network is back: earlier failures say nothing about the gateway. */
  online(): void;
}

/**
 * The wait for the next attempt to connect. It ends early when the browser is online again, when the page is shown and
 * when the application asks for it, but not before a time that the gateway named. While the browser is offline it does not
 * end. Owns one timer, and the listeners of the page.
 */
export class RetryWait {
  readonly #options: RetryWaitOptions;
  readonly #page: PageEvents;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the wait ends, by `performance.now()`; `null`: there is none. */
  #due: { atMs: number; isNamed: boolean } | null = null;
  #lastAttemptAtMs = Number.NEGATIVE_INFINITY;
  #lastOfflineAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: RetryWaitOptions) {
    this.#options = options;
    this.#page = new PageEvents({
      online: () => {
        options.online();
        this.#shorten(options.random() * onlineSpreadMs);
      },
      offline: () => (this.#lastOfflineAtMs = performance.now()),
      shown: () => {
        if (!this.#isOffline) this.#shorten(0);
      },
    });
  }

  /** A connection that is lost now is lost to the browser's own network, not to a failure of the gateway. */
  get isLossLocal(): boolean {
    return this.#isOffline || performance.now() - this.#lastOfflineAtMs < localLossMs;
  }

  /** Once. Connects at once. */
  start(): void {
    this.#page.start();
    this.#connect();
  }

  /** @param isNamed the gateway named the delay */
  wait(delayMs: number, isNamed: boolean): void {
    clearTimeout(this.#timer);
    this.#due = { atMs: performance.now() + delayMs, isNamed };
    this.#timer = setTimeout(() => {
      // Offline: `online` ends the wait.
      if (!this.#isOffline) this.#connect();
    }, delayMs);
  }

  /** The application asks for an attempt now, also while the browser is offline. */
  retry(): void {
    this.#shorten(0);
  }

  /** Final. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#due = null;
    this.#page.stop();
  }

  get #isOffline(): boolean {
    return this.#page.offline && !this.#options.isLoopback();
  }

  #shorten(wantedMs: number): void {
    const nowMs = performance.now();
    const due = this.#due;
    const leftMs = due ? due.atMs - nowMs : 0;
    if (!due || (due.isNamed && leftMs > 0)) return;
    const delayMs = Math.max(wantedMs, this.#lastAttemptAtMs + minBetweenMs - nowMs);
    if (delayMs <= 0) return this.#connect();
    // Past its time the wait is for the network.
    if (leftMs > 0 && leftMs - delayMs < minGainMs) return;
    this.wait(delayMs, false);
    this.#options.shortened(delayMs);
  }

  #connect(): void {
    clearTimeout(this.#timer);
    this.#due = null;
    this.#lastAttemptAtMs = performance.now();
    this.#options.connect();
  }
}
