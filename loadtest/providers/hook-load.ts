/** Sends webhooks at a rate, or as fast as they are answered, from a process of its own. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type Usage, processUsage } from "../checks/usage.ts";
import type { GroupFigures, HookLoadOptions, HookMessage, HookOrder } from "./load-messages.ts";

const answeredWithinMs = 30_000;

/** The caller ends it. */
export class HookLoad {
  readonly #child: ChildProcess;
  readonly #ended = Promise.withResolvers<Readonly<Record<string, GroupFigures>>>();
  /** Up to 20 ms ago. */
  accepted = 0;

  constructor(options: HookLoadOptions) {
    this.#child = fork(join(import.meta.dirname, "load-process.ts"), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child.on("message", (message: HookMessage) => {
      if (message.kind === "progress") this.accepted = message.accepted;
      else this.#ended.resolve(message.groups);
    });
    this.#child.once("exit", (code) => this.#ended.reject(new Error(`the webhook senders ended with ${code}`)));
    this.#ended.promise.catch(() => undefined);
    this.#order({ order: "begin", options });
  }

  get usage(): Usage | undefined {
    return this.#child.pid === undefined ? undefined : processUsage(this.#child.pid);
  }

  pause(): void {
    this.#order({ order: "pause" });
  }

  resume(): void {
    this.#order({ order: "resume" });
  }

  /** Resolves once everything under way is answered. @returns figures by group */
  async end(): Promise<Readonly<Record<string, GroupFigures>>> {
    this.#order({ order: "end" });
    const late = setTimeout(() => this.#ended.reject(new Error("webhooks are not answered")), answeredWithinMs);
    try {
      return await this.#ended.promise;
    } finally {
      clearTimeout(late);
      this.#child.disconnect();
      if (this.#child.exitCode === null) await once(this.#child, "exit");
    }
  }

  #order(order: HookOrder): void {
    this.#child.send(order);
  }
}
