/**
 * Boundaries for exceptions. Code that serves one peer's input or one tick of a timer runs inside a boundary: an exception is
 * counted and logged, and the process continues. An exception outside of a boundary ends the process.
 */
import type { Logger } from "./logging.ts";
import type { Metrics } from "./metrics.ts";

/** What the code was serving: a client's message, an HTTP request, a line of the relay, an event of the store, a timer. */
export type Boundary = "frame" | "http" | "relay" | "store" | "timer";

/** Shortest time between two log lines about errors of one kind. */
const logEveryMs = 60_000;
/** A kind is a place in the code, so there are few. */
const maxKinds = 200;

interface Kind {
  loggedAt: number;
  /** Since the last log line. */
  times: number;
}

export class ContainedErrors {
  readonly #logger: Logger;
  readonly #counts: Record<Boundary, number> = { frame: 0, http: 0, relay: 0, store: 0, timer: 0 };
  readonly #kinds = new Map<string, Kind>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get counts(): Readonly<Record<Boundary, number>> {
    return this.#counts;
  }

  /** Exports the counts as `tidegate_contained_errors_total{boundary}`. */
  addTo(metrics: Metrics): void {
    const help = "Exceptions that ended the handling of one message, request or timer, and nothing else";
    metrics.counts("contained_errors_total", help, "boundary", () => this.#counts);
  }

  /**
   * Runs `work`, and reports the error if it throws or its promise rejects.
   * @param onError closes the peer, if there is one. An error that it throws is reported too.
   */
  contain(boundary: Boundary, work: () => unknown, onError?: (error: unknown) => void): void {
    const fail = (error: unknown): void => {
      this.report(boundary, error);
      if (onError) this.contain(boundary, () => onError(error));
    };
    try {
      const result = work();
      if (result instanceof Promise) result.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  /** Wraps a listener or the callback of a timer in {@link contain}. */
  guarded<Args extends unknown[]>(
    boundary: Boundary,
    work: (...args: Args) => unknown,
    onError?: (error: unknown) => void,
  ): (...args: Args) => void {
    return (...args) => this.contain(boundary, () => work(...args), onError);
  }

  /** Runs `work` once per interval until `clearInterval`. Lint allows no other `setInterval`. */
  every(intervalMs: number, work: () => unknown): NodeJS.Timeout {
    return setInterval(this.guarded("timer", work), intervalMs);
  }

  /** Counts the error, and logs the first of its kind in each minute. */
  report(boundary: Boundary, error: unknown): void {
    this.#counts[boundary]++;
    const name = `${boundary} ${kindOf(error)}`;
    const now = performance.now();
    let kind = this.#kinds.get(name);
    if (kind && now - kind.loggedAt < logEveryMs) {
      kind.times++;
      return;
    }
    const repeated = kind ? kind.times : 0;
    if (!kind) this.#forgetOldest();
    kind = { loggedAt: now, times: 0 };
    this.#kinds.set(name, kind);
    this.#logger.error({ err: error, boundary, ...(repeated > 0 && { repeated }) }, "contained error");
  }

  #forgetOldest(): void {
    if (this.#kinds.size < maxKinds) return;
    const [oldest] = this.#kinds.keys();
    if (oldest !== undefined) this.#kinds.delete(oldest);
  }
}

/** Identifies the place that threw. Not the message: it may quote a client. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const { name, message, stack = "" } = error;
  const trace = stack.slice(stack.indexOf(message) + message.length);
  return `${name} ${/at [^\n]*/.exec(trace)?.[0] ?? ""}`;
}
