/** Measures how busy this dispatcher is, and reports it to the other processes. */
import { randomUUID } from "node:crypto";
import { type EventLoopUtilization, performance } from "node:perf_hooks";
import type { DispatcherRegistry } from "../../shared/dispatchers/contract.ts";
import { DispatchMeter } from "../../shared/load/dispatch-load.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { ReportStoreFailure } from "./store-failure.ts";

const everyMs = 1_000;

export class LoadReporter implements Service {
  readonly #registry: DispatcherRegistry;
  readonly #placesInUse: (nowMs: number) => number;
  readonly #errors: ContainedErrors;
  readonly #report: ReportStoreFailure;
  readonly #instance = randomUUID();
  readonly #meter = new DispatchMeter();
  /** Of the items that were tried for the first time since the last sample. */
  #tried = { count: 0, sumMs: 0, oldestMs: 0 };
  #eventLoop: EventLoopUtilization | undefined;
  #sampledAt = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param options.placesInUse since the last call, the largest share of any class's workers or any service's places */
  constructor(options: {
    registry: DispatcherRegistry;
    placesInUse: (nowMs: number) => number;
    errors: ContainedErrors;
    report: ReportStoreFailure;
  }) {
    this.#registry = options.registry;
    this.#placesInUse = options.placesInUse;
    this.#errors = options.errors;
    this.#report = options.report;
  }

  async start(): Promise<void> {
    this.#eventLoop = performance.eventLoopUtilization();
    this.#sampledAt = performance.now();
    this.#timer = this.#errors.every(everyMs, () => this.#sample());
    await this.#send();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#registry
      .leave(this.#instance)
      .catch((error: unknown) => this.#report(error, "the dispatcher could not leave the registry"));
  }

  /** An item is tried for the first time. @param ageMs since it was stored */
  tried(ageMs: number): void {
    const { count, sumMs, oldestMs } = this.#tried;
    this.#tried = { count: count + 1, sumMs: sumMs + ageMs, oldestMs: Math.max(oldestMs, ageMs) };
  }

  async #sample(): Promise<void> {
    const now = performance.now();
    const eventLoop = performance.eventLoopUtilization();
    const { count, sumMs, oldestMs } = this.#tried;
    const usage = {
      places: this.#placesInUse(now),
      eventLoop: performance.eventLoopUtilization(eventLoop, this.#eventLoop).utilization,
      ages: count === 0 ? undefined : { oldestMs, meanMs: sumMs / count },
    };
    this.#meter.sample(usage, now - this.#sampledAt);
    this.#tried = { count: 0, sumMs: 0, oldestMs: 0 };
    this.#eventLoop = eventLoop;
    this.#sampledAt = now;
    await this.#send();
  }

  async #send(): Promise<void> {
    try {
      await this.#registry.report(this.#instance, this.#meter.load);
    } catch (error) {
      this.#report(error, "the load of the dispatcher could not be reported");
    }
  }
}
