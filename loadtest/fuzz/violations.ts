/** What a run found, each cause once; with the smallest inputs that show it again. */
import type { Arena } from "./arena.ts";
import { keep } from "./corpus.ts";
import { Hunt } from "./hunt.ts";
import type { Input } from "./input.ts";
import type { Finding } from "./process-watch.ts";

export type ViolationKind = "died" | "logged" | "unanswered" | "blocked";

export interface Violation {
  readonly kind: ViolationKind;
  readonly signature: string;
  /** The log line, or what was measured. */
  readonly text: string;
  readonly target: string;
  count: number;
  /** The smallest that show it again; absent: none did. */
  inputs?: readonly Input[];
  /** In the corpus. */
  file?: string;
}

export interface ViolationOptions {
  readonly say: (line: string) => void;
  /** For finding and minimising the inputs behind one finding. */
  readonly huntMs: number;
  /** Writes what is found to the corpus. */
  readonly keep: boolean;
}

export class Violations {
  readonly #options: ViolationOptions;
  readonly #bySignature = new Map<string, Violation>();
  /** Spent on hunting, which is not fuzzing. */
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

  /** @returns whether it is the first of its cause. */
  add(violation: Omit<Violation, "count">): boolean {
    const known = this.#bySignature.get(violation.signature);
    if (known) known.count++;
    else this.#bySignature.set(violation.signature, { ...violation, count: 1 });
    return !known;
  }

  /** A new one is hunted for among the suspects. */
  async addFinding(arena: Arena, target: string, finding: Finding, suspects: readonly Input[]): Promise<void> {
    const { kind, signature, text } = finding;
    if (!this.add({ kind, signature, text, target })) return;
    this.#options.say(`FOUND ${signature}`);
    await this.hunt(arena, signature, async (withinMs) =>
      suspects.length > 0 ? new Hunt({ arena, finding, withinMs }).run(suspects) : undefined,
    );
  }

  /** @param search for the smallest inputs. */
  async hunt(
    arena: Arena,
    signature: string,
    search: (withinMs: number) => Promise<readonly Input[] | undefined>,
  ): Promise<void> {
    const startedAt = performance.now();
    const inputs = await search(this.#options.huntMs);
    this.huntedMs += performance.now() - startedAt;
    // The honest client was not served while what harms it was played again and again.
    await arena.honestFigures();
    const violation = this.#bySignature.get(signature);
    if (!violation) return;
    if (inputs) violation.inputs = inputs;
    const file =
      inputs && this.#options.keep
        ? keep({
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
    inputs ? `    shown by: ${inputText(inputs)}` : "    not shown again by the inputs that were played",
    ...(file === undefined ? [] : [`    corpus/${file}`]),
  ];
}

export function inputText(inputs: readonly Input[]): string {
  const text = JSON.stringify(inputs.length === 1 ? inputs[0] : inputs);
  return text.length <= maxInputText ? text : `${text.slice(0, maxInputText)}… (${text.length} characters)`;
}
