/** Thousands of real clients, spread over processes of their own. */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type MemberKind, Tally } from "../checks/tally.ts";
import type { MemberSpec, Order, Word } from "./crowd-orders.ts";

export interface CrowdOptions {
  readonly processes: number;
  readonly sdk: number;
  readonly stock: number;
  /** Balancers, or nodes: clients are spread over them. */
  readonly urls: readonly string[];
  /** Each follows two of them. */
  readonly channels: readonly string[];
  readonly jwtSecret: string;
}

interface Part {
  readonly child: ChildProcess;
  members: MemberSpec[];
  connected: number;
  following: number;
  callsUnderWay: number;
  tally: Tally | undefined;
}

const lookEveryMs = 50;
const noticeWithinMs = 5_000;

export class Crowd {
  readonly size: number;
  readonly #jwtSecret: string;
  readonly #parts: Part[] = [];
  #over = false;
  #broken: string | undefined;

  constructor(options: CrowdOptions) {
    this.size = options.sdk + options.stock;
    this.#jwtSecret = options.jwtSecret;
    for (let i = 0; i < options.processes; i++) this.#parts.push(this.#fork());
    for (let i = 0; i < this.size; i++) {
      // Stock clients are spread evenly among the others.
      const kind = Math.floor(((i + 1) * options.stock) / this.size) > Math.floor((i * options.stock) / this.size);
      this.#parts[i % this.#parts.length]?.members.push(memberOf(i, kind ? "stock" : "sdk", options));
    }
  }

  get pids(): number[] {
    return this.#parts.flatMap(({ child }) => child.pid ?? []);
  }

  /** Those that follow their channels over a connection now. As of a fifth of a second ago. */
  get connected(): number {
    return sum(this.#parts, ({ connected }) => connected);
  }

  /** Resolves once everybody follows every channel. */
  async join(options: { perSecond: number; withinMs: number }): Promise<void> {
    const { jwtSecret } = { jwtSecret: this.#jwtSecret };
    for (const part of this.#parts) {
      const perSecond = options.perSecond / this.#parts.length;
      tell(part, { order: "join", members: part.members, perSecond, jwtSecret });
    }
    await this.#until(
      () => sum(this.#parts, ({ following }) => following) === this.size && this.connected === this.size,
      options.withinMs,
      () => `${this.connected} of ${this.size} clients joined`,
    );
  }

  /** What happens, and what is published, from now on. */
  phase(phase: string): void {
    for (const part of this.#parts) tell(part, { order: "phase", phase });
  }

  /** Resolves once so many have noticed that they lost their connection; what was over before it was seen is not waited for. */
  async noticed(count: number): Promise<void> {
    const deadline = performance.now() + noticeWithinMs;
    while (this.connected > this.size - count && performance.now() < deadline) await pause(lookEveryMs);
  }

  /** Resolves once everybody is connected again. @returns ms that took. */
  async everybodyBack(withinMs: number): Promise<number> {
    const startedAt = performance.now();
    await this.#until(
      () => this.connected === this.size,
      withinMs,
      () => `${this.connected} of ${this.size} clients are back`,
    );
    return performance.now() - startedAt;
  }

  startCalls(perSecond: number): void {
    for (const part of this.#parts) tell(part, { order: "call", callsPerSecond: perSecond / this.#parts.length });
  }

  /** Resolves once the last is answered. */
  async endCalls(withinMs: number): Promise<void> {
    for (const part of this.#parts) tell(part, { order: "call", callsPerSecond: 0 });
    // What they say next is what was so after the order.
    await pause(1_000);
    const underWay = (): number => sum(this.#parts, ({ callsUnderWay }) => callsUnderWay);
    await this.#until(
      () => underWay() === 0,
      withinMs,
      () => `${underWay()} calls were never answered`,
    );
  }

  /** What everybody saw, once they have reached the ends of their channels or the time is up. */
  async report(options: { ends: Readonly<Record<string, number>>; withinMs: number }): Promise<Tally> {
    for (const part of this.#parts) tell(part, { order: "report", ...options });
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
    this.#over = true;
    await Promise.all(
      this.#parts.map(async (part) => {
        if (part.child.exitCode !== null) return;
        const gone = new Promise((resolve) => part.child.once("exit", resolve));
        if (part.child.connected) tell(part, { order: "leave" });
        const tooLate = setTimeout(() => part.child.kill("SIGKILL"), 10_000);
        await gone;
        clearTimeout(tooLate);
      }),
    );
  }

  #fork(): Part {
    const child = fork(join(import.meta.dirname, "crowd-process.ts"), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const part: Part = { child, members: [], connected: 0, following: 0, callsUnderWay: 0, tally: undefined };
    child.on("message", (word: Word) => {
      if (word.word === "progress") {
        const { connected, following, callsUnderWay } = word;
        Object.assign(part, { connected, following, callsUnderWay });
        return;
      }
      part.tally = new Tally();
      part.tally.merge(word.tally);
    });
    child.once("exit", (code) => {
      if (!this.#over) this.#broken = `a process with clients ended with exit code ${code}`;
    });
    return part;
  }

  async #until(condition: () => boolean, withinMs: number, otherwise: () => string): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!condition()) {
      if (this.#broken !== undefined) throw new Error(this.#broken);
      if (performance.now() > deadline) throw new Error(`${otherwise()} after ${withinMs} ms`);
      await pause(lookEveryMs);
    }
  }
}

function memberOf(i: number, kind: MemberKind, { urls, channels }: CrowdOptions): MemberSpec {
  const at = (list: readonly string[], n: number): string => list[n % list.length] ?? "";
  const first = Math.floor(i / urls.length);
  const followed = new Set([at(channels, first), at(channels, first * 7 + 3)]);
  return { kind, user: `user-${i}`, url: at(urls, i), channels: [...followed] };
}

function tell({ child }: Part, order: Order): void {
  child.send(order);
}

function sum<Item>(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
