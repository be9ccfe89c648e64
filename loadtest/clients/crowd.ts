/** Thousands of real clients, spread over several processes. */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type MemberKind, Tally } from "../checks/tally.ts";
import type { CrowdMessage, CrowdOrder, MemberSpec } from "./crowd-messages.ts";

export interface CrowdOptions {
  readonly processes: number;
  readonly sdk: number;
  readonly stock: number;
  /** Of balancers or nodes; the clients are spread over them. */
  readonly urls: readonly string[];
  /** Each client follows two of them. */
  readonly channels: readonly string[];
  readonly jwtSecret: string;
}

interface Part {
  readonly child: ChildProcess;
  connected: number;
  following: number;
  callsUnderWay: number;
  tally: Tally | undefined;
}

const checkEveryMs = 50;
const noticeWithinMs = 5_000;

export class Crowd {
  readonly size: number;
  readonly #options: CrowdOptions;
  #parts: readonly Part[] = [];
  #leaving = false;
  #broken: string | undefined;

  constructor(options: CrowdOptions) {
    this.size = options.sdk + options.stock;
    this.#options = options;
  }

  /** Clients that follow their channels over a connection, as of 200 ms ago. */
  get connected(): number {
    return sum(this.#parts, ({ connected }) => connected);
  }

  /** Starts the processes. Resolves once every client follows all of its channels. */
  async join(options: { perSecond: number; withinMs: number }): Promise<void> {
    const { processes, jwtSecret } = this.#options;
    this.#parts = Array.from({ length: processes }, () => this.#fork());
    const perSecond = options.perSecond / processes;
    for (const [process, part] of this.#parts.entries()) {
      order(part, { order: "join", members: this.#membersOf(process), perSecond, jwtSecret });
    }
    await this.#until(
      () => sum(this.#parts, ({ following }) => following) === this.size && this.connected === this.size,
      options.withinMs,
      () => `${this.connected} of ${this.size} clients joined`,
    );
  }

  /** Starts a phase: what clients see from now on counts for it. */
  phase(phase: string): void {
    for (const part of this.#parts) order(part, { order: "phase", phase });
  }

  /** Resolves once so many clients are without a connection, or after 5 s: they may be back already. */
  async noticed(count: number): Promise<void> {
    const deadline = performance.now() + noticeWithinMs;
    while (this.connected > this.size - count && performance.now() < deadline) await pause(checkEveryMs);
  }

  /** Resolves once every client is connected again. @returns ms that took. */
  async allBack(withinMs: number): Promise<number> {
    const startedAt = performance.now();
    await this.#until(
      () => this.connected === this.size,
      withinMs,
      () => `${this.connected} of ${this.size} clients are back`,
    );
    return performance.now() - startedAt;
  }

  startCalls(perSecond: number): void {
    for (const part of this.#parts) order(part, { order: "call", callsPerSecond: perSecond / this.#parts.length });
  }

  /** Resolves once the last call is answered. */
  async endCalls(withinMs: number): Promise<void> {
    for (const part of this.#parts) order(part, { order: "call", callsPerSecond: 0 });
    // The next progress messages count calls as of after the order.
    await pause(1_000);
    const underWay = (): number => sum(this.#parts, ({ callsUnderWay }) => callsUnderWay);
    await this.#until(
      () => underWay() === 0,
      withinMs,
      () => `${underWay()} calls are not answered`,
    );
  }

  /** What all clients saw, once they have reached the ends of their channels or the time is up. */
  async report(options: { ends: Readonly<Record<string, number>>; withinMs: number }): Promise<Tally> {
    for (const part of this.#parts) order(part, { order: "report", ...options });
    await this.#until(
      () => this.#parts.every(({ tally }) => tally),
      options.withinMs + 10_000,
      () => "a process did not report",
    );
    const whole = new Tally();
    for (const { tally } of this.#parts) if (tally) whole.merge(tally.toJSON());
    return whole;
  }

  async leave(): Promise<void> {
    this.#leaving = true;
    await Promise.all(
      this.#parts.map(async (part) => {
        if (part.child.exitCode !== null) return;
        const gone = new Promise((resolve) => part.child.once("exit", resolve));
        if (part.child.connected) order(part, { order: "leave" });
        const tooLate = setTimeout(() => part.child.kill("SIGKILL"), 10_000);
        await gone;
        clearTimeout(tooLate);
      }),
    );
  }

  #membersOf(process: number): MemberSpec[] {
    const { processes, stock } = this.#options;
    const members: MemberSpec[] = [];
    for (let i = process; i < this.size; i += processes) {
      // Stock clients are spread evenly among the others.
      const isStock = Math.floor(((i + 1) * stock) / this.size) > Math.floor((i * stock) / this.size);
      members.push(memberOf(i, isStock ? "stock" : "sdk", this.#options));
    }
    return members;
  }

  #fork(): Part {
    const child = fork(join(import.meta.dirname, "crowd-process.ts"), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const part: Part = { child, connected: 0, following: 0, callsUnderWay: 0, tally: undefined };
    child.on("message", (message: CrowdMessage) => {
      if (message.kind === "progress") {
        const { connected, following, callsUnderWay } = message;
        Object.assign(part, { connected, following, callsUnderWay });
        return;
      }
      part.tally = new Tally();
      part.tally.merge(message.tally);
    });
    child.once("exit", (code) => {
      if (!this.#leaving) this.#broken = `a crowd process ended with exit code ${code}`;
    });
    return part;
  }

  async #until(condition: () => boolean, withinMs: number, otherwise: () => string): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!condition()) {
      if (this.#broken !== undefined) throw new Error(this.#broken);
      if (performance.now() > deadline) throw new Error(`${otherwise()} after ${withinMs} ms`);
      await pause(checkEveryMs);
    }
  }
}

function memberOf(i: number, kind: MemberKind, { urls, channels }: CrowdOptions): MemberSpec {
  const at = (list: readonly string[], n: number): string => list[n % list.length] ?? "";
  const first = Math.floor(i / urls.length);
  const followed = new Set([at(channels, first), at(channels, first * 7 + 3)]);
  return { kind, user: `user-${i}`, url: at(urls, i), channels: [...followed] };
}

function order({ child }: Part, message: CrowdOrder): void {
  child.send(message);
}

function sum<Item>(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
