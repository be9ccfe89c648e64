/**
 * Where an exception stops. Code that handles one peer's input, or one tick of a timer, runs inside of a boundary: what it
 * throws is counted and logged, and the process lives on. An exception outside of a boundary still ends the process.
 */
import type { Logger } from "./logging.ts";
import type { Metrics } from "./metrics.ts";

/** What was being handled: a client's message, a request or response, a line of the relay, news of the store, a timer. */
export type Boundary = "frame" | "http" | "relay" | "store" | "timer";

/** An error of the same kind is logged again after this. */
const logEveryMs = 60_000;
/** Kinds are places in our code and in libraries: there are few. */
const maxKinds = 200;

interface Kind {
  loggedAt: number;
  /** Since it was last logged. */
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

  /** Shows the counts as `tidegate_contained_errors_total{boundary}`. */
  addTo(metrics: Metrics): void {
    const help = "Exceptions that ended the handling of one message, request or timer, and nothing else";
    metrics.counts("contained_errors_total", help, "boundary", () => this.#counts);
  }

  /**
   * Runs `work`. What it throws, or what the promise it returns rejects with, is reported.
   * @param onError closes the peer, where there is one. What it throws is reported, too.
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

  /** As {@link contain}, for a listener or the callback of a timer. */
  guarded<Args extends unknown[]>(
    boundary: Boundary,
    work: (...args: Args) => unknown,
    onError?: (error: unknown) => void,
  ): (...args: Args) => void {
    return (...args) => this.contain(boundary, () => work(...args), onError);
  }

  /** Calls `work` once in each interval, until `clearInterval`: the one way to do periodic work. */
  every(intervalMs: number, work: () => unknown): NodeJS.Timeout {
    return setInterval(this.guarded("timer", work), intervalMs);
  }

  /** Counts an error, and logs the first of its kind in each minute. */
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

/** The place that threw, not the message: a message may quote what a client sent. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const { name, message, stack = "" } = error;
  const trace = stack.slice(stack.indexOf(message) + message.length);
  return `${name} ${/at [^\n]*/.exec(trace)?.[0] ?? ""}`;
}
