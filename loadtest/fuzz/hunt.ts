/** Finds the inputs that reproduce a finding among the suspects, and minimises them. */
import { setTimeout as pause } from "node:timers/promises";
import type { Arena } from "./arena.ts";
import type { Finding } from "./process-watch.ts";
import { type Input, inputValidator } from "./input.ts";
import { minimise } from "./minimise.ts";

/** The effect of an input may show a little later. */
const settleMs = 300;
const stepMs = 50;
/** As many as in a run, for findings that need several inputs at once. */
const atOnce = 8;

export class Hunt {
  readonly #arena: Arena;
  readonly #finding: Finding;
  readonly #deadline: number;

  /** @param options.withinMs then the smallest inputs so far count */
  constructor(options: { arena: Arena; finding: Finding; withinMs: number }) {
    this.#arena = options.arena;
    this.#finding = options.finding;
    this.#deadline = performance.now() + options.withinMs;
  }

  /** @returns the smallest inputs; undefined where the suspects do not reproduce the finding. */
  async run(suspects: readonly Input[]): Promise<Input[] | undefined> {
    const found = await this.#narrow(suspects);
    if (!found) return undefined;
    const isValid = (candidate: unknown): candidate is Input[] =>
      Array.isArray(candidate) && candidate.length > 0 && candidate.every((input) => inputValidator.Check(input));
    const smallest = await minimise(found, {
      reproduces: async (candidate) => this.#shows(candidate),
      isValid,
      maxTries: 400,
      deadline: this.#deadline,
    });
    return smallest.map(tidied);
  }

  /** Starts with the latest inputs, which are the most likely. */
  async #narrow(suspects: readonly Input[]): Promise<Input[] | undefined> {
    for (const count of [16, 128, suspects.length]) {
      let group = suspects.slice(-count);
      // Some findings are intermittent.
      if (!(await this.#shows(group)) && !(await this.#shows(group))) {
        if (count >= suspects.length) return undefined;
        continue;
      }
      while (group.length > 1 && performance.now() < this.#deadline) {
        const half = Math.ceil(group.length / 2);
        const [first, second] = [group.slice(0, half), group.slice(half)];
        if (await this.#shows(second)) group = second;
        else if (await this.#shows(first)) group = first;
        else break;
      }
      return group;
    }
    return undefined;
  }

  /** Exceptions that the finding's boundary contained. That of the relay contains errors of its peers, too, and is left out. */
  async #contained(): Promise<number> {
    const { process, boundary } = this.#finding;
    if (boundary === undefined || boundary === "relay" || this.#arena.hasDead) return 0;
    return (await this.#arena.contained()).get(`${process} ${boundary}`) ?? 0;
  }

  async #shows(inputs: readonly Input[]): Promise<boolean> {
    const before = await this.#contained();
    const left = [...inputs];
    const workers = Array.from({ length: Math.min(atOnce, inputs.length) }, async () => {
      for (let input = left.shift(); input && !this.#arena.hasDead; input = left.shift()) {
        // An unanswered input is another finding.
        await this.#arena.play(input).catch(() => undefined);
      }
    });
    await Promise.all(workers);
    for (let waitedMs = 0; waitedMs < settleMs; waitedMs += stepMs) {
      const findings = await this.#arena.findings();
      if (findings.some(({ signature }) => signature === this.#finding.signature)) return true;
      if ((await this.#contained()) > before) return true;
      await pause(stepMs);
    }
    return false;
  }
}

/** Joins adjacent text parts: the same bytes in fewer parts. */
function tidied<T>(value: T): T {
  if (Array.isArray(value)) return joined(value.map(tidied)) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, tidied(member)])) as T;
}

function joined(items: readonly unknown[]): unknown[] {
  const parts: unknown[] = [];
  for (const item of items) {
    const last = parts.at(-1);
    if (typeof item === "string" && typeof last === "string") parts[parts.length - 1] = last + item;
    else parts.push(item);
  }
  return parts;
}
