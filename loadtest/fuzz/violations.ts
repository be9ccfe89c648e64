/** The violations of a run, once for each cause, with the smallest inputs that reproduce them. */
import type { Arena } from "./arena.ts";
import { addToCorpus } from "./corpus.ts";
import { Hunt } from "./hunt.ts";
import type { Input } from "./input.ts";
import type { Finding } from "./process-watch.ts";

export type ViolationKind = "died" | "logged" | "unanswered" | "blocked";

export interface Violation {
  readonly kind: ViolationKind;
  readonly signature: string;
  /** The log line, or the measured cost. */
  readonly text: string;
  readonly target: string;
  count: number;
  /** The smallest inputs that reproduce it; absent where none does. */
  inputs?: readonly Input[];
  /** Its file in the corpus. */
  file?: string;
}

export interface ViolationOptions {
  readonly say: (line: string) => void;
  /** Time to find and minimise the inputs behind one finding. */
  readonly huntMs: number;
  /** Adds reproduced violations to the corpus. */
  readonly keep: boolean;
}

export class Violations {
  readonly #options: ViolationOptions;
  readonly #bySignature = new Map<string, Violation>();
  /** Time spent on hunts, which does not count as fuzzing. */
  huntedMs = 0;

  constructor(options: ViolationOptions) {
    this.#options = options;
  }

  get all(): readonly Violation[] {
    return [...this.#bySignature.values()];
  }

  count(kind: ViolationKind): number {
    return this.all.filter((violation) => violation.kind === kind).length;
  }

  knows(signature: string): boolean {
    return this.#bySignature.has(signature);
  }

  /** @returns whether it is the first with its signature. */
  add(violation: Omit<Violation, "count">): boolean {
    const known = this.#bySignature.get(violation.signature);
    if (known) known.count++;
    else this.#bySignature.set(violation.signature, { ...violation, count: 1 });
    return !known;
  }

  /** Adds a finding; hunts for the inputs behind a new one among the suspects. */
  async addFinding(arena: Arena, target: string, finding: Finding, suspects: readonly Input[]): Promise<void> {
    const { kind, signature, text } = finding;
    if (!this.add({ kind, signature, text, target })) return;
    this.#options.say(`FOUND ${signature}`);
    await this.hunt(arena, signature, async (withinMs) =>
      suspects.length > 0 ? new Hunt({ arena, finding, withinMs }).run(suspects) : undefined,
    );
  }

  /** @param search finds the smallest inputs */
  async hunt(
    arena: Arena,
    signature: string,
    search: (withinMs: number) => Promise<readonly Input[] | undefined>,
  ): Promise<void> {
    const startedAt = performance.now();
    const inputs = await search(this.#options.huntMs);
    this.huntedMs += performance.now() - startedAt;
    // Drops the figures of the honest client, which the hunt disturbed.
    await arena.honestFigures();
    const violation = this.#bySignature.get(signature);
    if (!violation) return;
    if (inputs) violation.inputs = inputs;
    const file =
      inputs && this.#options.keep
        ? addToCorpus({
            target: violation.target,
            found: signature,
            inputs,
            ...(violation.kind === "blocked" && { costly: true }),
          })
        : undefined;
    if (file !== undefined) violation.file = file;
    for (const line of violationLines(violation)) this.#options.say(line);
  }
}

const maxText = 1_200;
const maxInputText = 600;

export function violationLines({ kind, signature, text, target, count, inputs, file }: Violation): string[] {
  return [
    `  ${kind.toUpperCase()} ${count}×, ${target}: ${signature}`,
    `    ${text.slice(0, maxText)}`,
    inputs ? `    reproduced by: ${inputText(inputs)}` : "    not reproduced",
    ...(file === undefined ? [] : [`    corpus/${file}`]),
  ];
}

export function inputText(inputs: readonly Input[]): string {
  const text = JSON.stringify(inputs.length === 1 ? inputs[0] : inputs);
  return text.length <= maxInputText ? text : `${text.slice(0, maxInputText)}… (${text.length} characters)`;
}
