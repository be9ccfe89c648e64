/** One run: replays the corpus, plays rounds over all targets, then checks for leftovers. */
import { setTimeout as pause } from "node:timers/promises";
import { Arena } from "./arena.ts";
import { readCorpus } from "./corpus.ts";
import { growthOf, leftovers, type Memory, type MemoryGrowth, resourcesOf } from "./leftovers.ts";
import { Observations } from "./observations.ts";
import type { FuzzReport } from "./report.ts";
import type { FuzzOptions } from "./settings.ts";
import { TargetInputs } from "./target-inputs.ts";
import { inputOf, type Target, targets } from "./targets.ts";
import { verdictsOn } from "./verdicts.ts";
import { Violations } from "./violations.ts";

/** The first round plays the same inputs in each run and warms up; memory is compared from its end on. */
const firstSeed = "first";
const roundMs = 60_000;
const minRoundMs = 1_000;
const warmUpShare = 0.35;
/** The rest of a round measures the cost of single inputs. A run that counts is longer, and measures as many in less of it. */
const massShare = { timed: 0.7, counted: 0.85 } as const;
const settleMs = 1_500;

export async function runFuzz(options: FuzzOptions): Promise<FuzzReport> {
  const chosen = targets.filter(({ name }) => options.targets.includes(name));
  const arenas = [...new Set(chosen.map(({ arena }) => arena))].map((name) => new Arena(name));
  let stopped: Promise<boolean[]> | undefined;
  const stop = async (): Promise<boolean> => {
    stopped ??= Promise.all(arenas.map(async (arena) => arena.stop()));
    return (await stopped).every(Boolean);
  };
  try {
    options.say(`seed ${options.seed}`);
    await Promise.all(arenas.map(async (arena) => arena.start()));
    return await new FuzzRun(options, chosen, arenas).run(stop);
  } finally {
    await stop();
  }
}

class FuzzRun {
  readonly #options: FuzzOptions;
  readonly #targets: readonly Target[];
  readonly #arenas: readonly Arena[];
  readonly #violations: Violations;
  readonly #observations: Observations;
  readonly #inputs: TargetInputs;
  readonly #startedAt = performance.now();

  constructor(options: FuzzOptions, chosen: readonly Target[], arenas: readonly Arena[]) {
    this.#options = options;
    this.#targets = chosen;
    this.#arenas = arenas;
    this.#observations = new Observations(arenas, (line) => this.#say(line));
    this.#violations = new Violations({ ...options, say: (line) => this.#say(line) });
    this.#inputs = new TargetInputs(chosen, {
      ...options,
      arenas,
      violations: this.#violations,
      observations: this.#observations,
      say: (line) => this.#say(line),
    });
  }

  /** @param stop ends the arenas, and returns whether in order */
  async run(stop: () => Promise<boolean>): Promise<FuzzReport> {
    await pause(settleMs);
    const before = await resourcesOf(this.#arenas);
    const memory = await this.#fuzz();
    for (const arena of this.#arenas) await arena.dismissAudience();
    const left = await leftovers(this.#arenas, before, this.#options.signal);
    if (left.length > 0) this.#sayOpenFiles();
    await this.#collectFindings();
    await this.#observations.collectHonest();
    const contained = await this.#observations.contained();
    const { seed } = this.#options;
    const found = {
      seed,
      seconds: (performance.now() - this.#startedAt) / 1_000,
      tallies: this.#inputs.tallies,
      honest: this.#observations.honest,
      starved: this.#arenas.reduce((sum, { starved }) => sum + starved, 0),
      honestFailures: this.#observations.honestFailures,
      memory,
      contained,
      leftovers: left,
      strayWebhooks: await this.#observations.strayWebhooks(),
      worst: this.#inputs.worst,
      measured: this.#inputs.measured,
      warnings: this.#observations.warnings(),
      violations: this.#violations.all,
      endedInOrder: await stop(),
    };
    const verdicts = verdictsOn(found);
    return { ...found, verdicts, pass: verdicts.every(({ pass }) => pass) };
  }

  async #fuzz(): Promise<MemoryGrowth[]> {
    const { only, seconds } = this.#options;
    for (const arena of this.#arenas) arena.gatherAudience();
    if (only !== undefined) {
      await this.#playOnly(only);
      return [];
    }
    this.#inputs.begin(firstSeed);
    await this.#replayCorpus();
    await this.#round(Math.min(roundMs, seconds * 1_000 * warmUpShare));
    const before = await this.#memory();
    this.#inputs.begin(this.#options.seed);
    let after = before;
    do {
      await this.#round(Math.min(roundMs, Math.max(minRoundMs, this.#leftMs)));
      after = await this.#memory();
    } while (!this.#isOver);
    return growthOf(before, after);
  }

  get #leftMs(): number {
    return this.#options.seconds * 1_000 - (performance.now() - this.#startedAt - this.#violations.huntedMs);
  }

  get #isOver(): boolean {
    return this.#isAborted || this.#leftMs <= 0 || this.#targets.every((target) => this.#inputs.areEnough(target));
  }

  get #isAborted(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  async #round(ms: number): Promise<void> {
    const left = this.#targets.filter((target) => !this.#inputs.areEnough(target));
    const share = this.#options.seconds === Infinity ? massShare.counted : massShare.timed;
    const weights = left.reduce((sum, { weight }) => sum + weight, 0);
    for (const target of left) {
      if (this.#isAborted) return;
      await this.#inputs.playMany(target, (ms * share * target.weight) / weights);
      await this.#observations.collectHonest();
    }
    for (const target of left) {
      if (this.#isAborted) return;
      await this.#inputs.measure(target, (ms * (1 - share)) / left.length);
      await this.#observations.collectHonest();
    }
  }

  async #replayCorpus(): Promise<void> {
    let replayed = 0;
    for (const [file, { target: name, inputs, costly }] of readCorpus()) {
      const target = this.#targets.find((candidate) => candidate.name === name);
      if (!target || this.#isAborted) continue;
      await this.#inputs.replay(target, inputs, { costly });
      for (const { kind, signature, text } of await this.#inputs.arenaOf(target).findings()) {
        this.#violations.add({ kind, signature, text, target: name, inputs, file });
        this.#say(`corpus/${file} reproduces: ${signature}`);
      }
      replayed++;
    }
    this.#say(`corpus: ${replayed} entries replayed`);
  }

  async #playOnly(number: number): Promise<void> {
    const [target] = this.#targets;
    if (!target) return;
    const input = inputOf(target, this.#options.seed, number);
    this.#say(JSON.stringify(input, undefined, 2));
    this.#say(JSON.stringify(await this.#inputs.arenaOf(target).play(input)));
    await pause(settleMs);
  }

  async #memory(): Promise<Memory[]> {
    await pause(settleMs);
    await this.#collectFindings();
    return this.#observations.memory();
  }

  /** Adds findings that no input explains. */
  async #collectFindings(): Promise<void> {
    for (const arena of this.#arenas) {
      for (const { kind, signature, text } of await arena.findings()) {
        this.#violations.add({ kind, signature, text, target: arena.name });
      }
    }
  }

  #sayOpenFiles(): void {
    for (const { name, watches } of this.#arenas) {
      for (const { server, openFiles } of watches) this.#say(`${name}: ${server.role} has open ${openFiles}`);
    }
  }

  #say(line: string): void {
    this.#options.say(`${((performance.now() - this.#startedAt) / 1_000).toFixed(1)} s ${line}`);
  }
}
