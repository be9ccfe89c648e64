/** The service behind webhooks under load, in a process of its own. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { HistogramJson } from "../checks/histogram.ts";
import { processUsage, type Usage } from "../checks/usage.ts";

export interface ServiceFigures {
  /** Since its start; so are the two that follow. */
  readonly received: number;
  /** Requests with a webhook that had come before. */
  readonly repeats: number;
  /** Webhooks that came before an earlier one of their key. */
  readonly disordered: number;
  /** Since the figures were asked for last, by group: from when a webhook was due until it came. */
  readonly waitMs: Readonly<Record<string, HistogramJson>>;
  /** As long, until its answer. */
  readonly servedMs: Readonly<Record<string, HistogramJson>>;
  /** As long, by group: most requests under way. */
  readonly mostAtOnce: Readonly<Record<string, number>>;
  /** Open now. */
  readonly connections: number;
}

export type ServiceOrder = { order: "delay"; ms: number } | { order: "down"; isDown: boolean } | { order: "figures" };
export type ServiceMessage =
  | { kind: "listening"; ports: readonly number[] }
  | { kind: "progress"; received: number; afterOutage: number }
  | { kind: "figures"; figures: ServiceFigures };

/** What came under `/slow/`. */
export function slowGroup(group: string): string {
  return `${group}, slow`;
}

/** What came under `/down/`. */
export function downGroup(group: string): string {
  return `${group}, down`;
}

/** The caller stops it. */
export class HookSink {
  readonly #child: ChildProcess;
  readonly #listening = Promise.withResolvers<readonly number[]>();
  #figures = Promise.withResolvers<ServiceFigures>();
  /** Up to 20 ms ago, but for what came under `/down/`. */
  received = 0;
  /** Up to 20 ms ago, under `/down/`. */
  afterOutage = 0;

  /** @param options.slowMs of requests under `/slow/` @param options.origins ports that it listens on */
  constructor({ slowMs = 0, origins = 1 } = {}) {
    this.#child = fork(join(import.meta.dirname, "hook-service.ts"), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: { ...process.env, SLOW_MS: String(slowMs), ORIGINS: String(origins) },
    });
    this.#child.on("message", (message: ServiceMessage) => {
      if (message.kind === "listening") this.#listening.resolve(message.ports);
      else if (message.kind === "progress") {
        this.received = message.received;
        this.afterOutage = message.afterOutage;
      } else this.#figures.resolve(message.figures);
    });
    this.#child.once("exit", (code) => this.#listening.reject(new Error(`the service ended with ${code}`)));
    this.#listening.promise.catch(() => undefined);
  }

  async url(): Promise<string> {
    const [first = ""] = await this.urls();
    return first;
  }

  /** Of every origin. */
  async urls(): Promise<readonly string[]> {
    return (await this.#listening.promise).map((port) => `http://127.0.0.1:${port}`);
  }

  get usage(): Usage | undefined {
    return this.#child.pid === undefined ? undefined : processUsage(this.#child.pid);
  }

  /** It answers each later request after that time. */
  delay(ms: number): void {
    this.#order({ order: "delay", ms });
  }

  /** It answers 503 under `/down/`. */
  fail(isDown: boolean): void {
    this.#order({ order: "down", isDown });
  }

  async figures(): Promise<ServiceFigures> {
    this.#figures = Promise.withResolvers();
    this.#order({ order: "figures" });
    return this.#figures.promise;
  }

  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    if (this.#child.exitCode === null) await once(this.#child, "exit");
  }

  #order(order: ServiceOrder): void {
    this.#child.send(order);
  }
}
