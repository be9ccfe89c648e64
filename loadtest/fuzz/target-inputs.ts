/** Plays the inputs of targets: many at once, or single costly ones whose CPU time is measured. */
import { setTimeout as pause } from "node:timers/promises";
import type { Arena } from "./arena.ts";
import { CostMeter, type Costly, limits } from "./cost.ts";
import { type Input, inputValidator } from "./input.ts";
import { minimise } from "./minimise.ts";
import type { Observations } from "./observations.ts";
import type { Finding } from "./process-watch.ts";
import { type Tally, tallyText } from "./report.ts";
import type { FuzzOptions } from "./settings.ts";
import { costlyInputOf, inputOf, type Target } from "./targets.ts";
import type { Violations } from "./violations.ts";

/** Inputs that are measured at least in each round, however slow the machine is. */
const minMeasured = 3;
const watchMs = 200;
/** The latest inputs, which may have caused a finding. */
const maxSuspects = 1_500;
/** The effect of an input may show a little later. */
const afterReplayMs = 50;

interface TargetInputsOptions extends Pick<FuzzOptions, "frames" | "requests" | "costFactor" | "signal" | "say"> {
  readonly arenas: readonly Arena[];
  readonly violations: Violations;
  readonly observations: Observations;
}

/** Inputs of one target that are played in a row. */
interface Slice {
  readonly suspects: Input[];
  readonly tally: Tally;
  readonly deadline: number;
}

export class TargetInputs {
  readonly #options: TargetInputsOptions;
  readonly #tallies = new Map<string, Tally>();
  readonly #worst = new Map<string, Costly>();
  /** The number of the next input, by series. */
  readonly #numbers = new Map<string, number>();
  #seed = "";
  #measured = 0;

  constructor(targets: readonly Target[], options: TargetInputsOptions) {
    this.#options = options;
    for (const { name } of targets) this.#tallies.set(name, { inputs: 0, frames: 0, requests: 0, refused: 0, ms: 0 });
  }

  get tallies(): Readonly<Record<string, Tally>> {
    return Object.fromEntries(this.#tallies);
  }

  /** The costliest first. */
  get worst(): readonly Costly[] {
    return [...this.#worst.values()].sort((a, b) => b.turnMs - a.turnMs);
  }

  /** Single inputs whose cost was measured. */
  get measured(): number {
    return this.#measured;
  }

  /** Every series starts at its first input. */
  begin(seed: string): void {
    this.#seed = seed;
    this.#numbers.clear();
  }

  arenaOf({ arena: name }: Target): Arena {
    const arena = this.#options.arenas.find((candidate) => candidate.name === name);
    if (!arena) throw new Error(`no such arena: ${name}`);
    return arena;
  }

  /** Replays inputs of the corpus. */
  async replay(target: Target, inputs: readonly Input[], { costly }: { costly: boolean | undefined }): Promise<void> {
    const arena = this.arenaOf(target);
    for (const input of inputs) await arena.play(input);
    if (!costly) {
      await pause(afterReplayMs);
      return;
    }
    const meter = await CostMeter.open(arena, this.#worst);
    for (const input of inputs) await this.#cost(meter, target, input);
    meter.close();
  }

  /** Plays inputs of one target, many at once. */
  async playMany(target: Target, ms: number): Promise<void> {
    const arena = this.arenaOf(target);
    const tally = this.#tally(target);
    const earlier = { ...tally };
    const deadline = performance.now() + ms;
    while (performance.now() < deadline && !this.areEnough(target) && !this.#isAborted) {
      const startedAt = performance.now();
      const suspects: Input[] = [];
      const findings: Finding[] = [];
      let stopped = false;
      const watching = setInterval(() => {
        findings.push(...arena.watches.flatMap((watch) => watch.findings()));
        stopped ||=
          findings.some(({ signature }) => !this.#options.violations.knows(signature)) || this.areEnough(target);
      }, watchMs);
      const workers = Array.from({ length: target.atOnce }, async () => {
        while (!stopped && !arena.hasDead && performance.now() < deadline && !this.#isAborted) {
          await this.#playNext(target, { suspects, tally, deadline });
        }
      });
      await Promise.all(workers);
      clearInterval(watching);
      tally.ms += performance.now() - startedAt;
      findings.push(...(await arena.findings()));
      arena.leave();
      for (const finding of findings) await this.#found(target, finding, suspects.slice(-maxSuspects));
    }
    const now = { ...tally };
    for (const field of ["inputs", "frames", "requests", "refused", "ms"] as const) now[field] -= earlier[field];
    this.#options.say(`${target.name}: ${tallyText(now)}`);
  }

  async #playNext(target: Target, { suspects, tally, deadline }: Slice): Promise<void> {
    const input = inputOf(target, this.#seed, this.#nextNumber(target.name));
    suspects.push(input);
    if (suspects.length > 2 * maxSuspects) suspects.splice(0, maxSuspects);
    try {
      const { frames, requests, refused } = await this.arenaOf(target).play(input, { deadline });
      tally.inputs++;
      tally.frames += frames;
      tally.requests += requests;
      if (refused) tally.refused++;
    } catch (error) {
      if (this.arenaOf(target).hasDead) return;
      const { message: text } = error as Error;
      const { name } = target;
      this.#options.violations.add({
        kind: "unanswered",
        signature: `unanswered: ${text}`,
        text,
        target: name,
        inputs: [input],
      });
    }
  }

  async #found(target: Target, finding: Finding, suspects: readonly Input[]): Promise<void> {
    if (!this.#options.violations.knows(finding.signature)) await this.#options.observations.collectHonest();
    await this.#options.violations.addFinding(this.arenaOf(target), target.name, finding, suspects);
  }

  /** Plays single costly inputs of one target, one after the other. */
  async measure(target: Target, ms: number): Promise<void> {
    const arena = this.arenaOf(target);
    const deadline = performance.now() + ms;
    const meter = await CostMeter.open(arena, this.#worst);
    while ((performance.now() < deadline || meter.measured < minMeasured) && !this.#isAborted) {
      const input = costlyInputOf(target, this.#seed, this.#nextNumber(`${target.name}/costly`));
      await this.#cost(meter, target, input);
      const findings = await arena.findings();
      for (const finding of findings) await this.#found(target, finding, [input]);
      // The inspector ended with its process.
      if (findings.some(({ kind }) => kind === "died")) break;
    }
    meter.close();
    arena.leave();
    this.#measured += meter.measured;
    this.#options.say(`${target.name}: ${meter.measured} single inputs measured`);
  }

  async #cost(meter: CostMeter, target: Target, input: Input): Promise<void> {
    for (const { process, standing, turnMs } of await meter.measure(target, input)) {
      const limitMs = limits[standing] * this.#options.costFactor;
      if (turnMs <= limitMs) continue;
      const signature = `${process} blocked by ${target.name}, ${standing}`;
      const text = `${turnMs.toFixed(1)} ms of CPU in one turn, of ${limitMs}`;
      if (!this.#options.violations.add({ kind: "blocked", signature, text, target: target.name })) continue;
      await this.#options.violations.hunt(this.arenaOf(target), signature, async (withinMs) => {
        const smallest = await minimise(input, {
          reproduces: async (candidate) => meter.costsMore(candidate, process, limitMs),
          isValid: (candidate): candidate is Input => inputValidator.Check(candidate),
          maxTries: 60,
          deadline: performance.now() + withinMs,
        });
        return [smallest];
      });
    }
  }

  /** The target has as many frames or requests as the run is to play. */
  areEnough({ counts }: Target): boolean {
    const sum = [...this.#tallies.values()].reduce((total, tally) => total + tally[counts], 0);
    return sum >= this.#options[counts];
  }

  get #isAborted(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  #nextNumber(series: string): number {
    const number = this.#numbers.get(series) ?? 0;
    this.#numbers.set(series, number + 1);
    return number;
  }

  #tally({ name }: Target): Tally {
    const tally = this.#tallies.get(name);
    if (!tally) throw new Error(`no such target: ${name}`);
    return tally;
  }
}
