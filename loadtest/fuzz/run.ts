/** One run: replays the corpus, plays rounds over all targets, then checks for leftovers. */
import { setTimeout as pause } from "node:timers/promises";
import { Arena } from "./arena.ts";
import { readCorpus } from "./corpus.ts";
import { CostMeter, type Costly, limits } from "./cost.ts";
import { type Input, inputValidator } from "./input.ts";
import { growthOf, leftovers, type Memory, type MemoryGrowth, resourcesOf } from "./leftovers.ts";
import { minimise } from "./minimise.ts";
import { Observations } from "./observations.ts";
import type { Finding } from "./process-watch.ts";
import { type FuzzReport, type Tally, tallyText } from "./report.ts";
import type { FuzzSettings } from "./settings.ts";
import { costlyInputOf, inputOf, type Target, targets } from "./targets.ts";
import { verdictsOn } from "./verdicts.ts";
import { Violations } from "./violations.ts";

export interface FuzzOptions extends FuzzSettings {
  readonly signal?: AbortSignal;
  readonly say: (line: string) => void;
  /** Time to find and minimise the inputs behind one finding. */
  readonly huntMs: number;
  /** Multiplies the limits of single inputs; above 1 where the machine is shared. */
  readonly costFactor: number;
}

/** The first round plays the same inputs in each run and warms up; memory is compared from its end on. */
const firstSeed = "first";
const roundMs = 60_000;
const minRoundMs = 1_000;
const warmUpShare = 0.35;
/** The rest of a round measures the cost of single inputs. A run that counts is longer, and measures as many in less of it. */
const massShare = { timed: 0.7, counted: 0.85 } as const;
/** Inputs that are measured at least in each round, however slow the machine is. */
const minMeasured = 3;
const watchMs = 200;
/** The latest inputs, which may have caused a finding. */
const maxSuspects = 1_500;
const settleMs = 1_500;
/** The effect of an input may show a little later. */
const afterReplayMs = 50;

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

/** Inputs of one target that are played in a row. */
interface Slice {
  readonly suspects: Input[];
  readonly tally: Tally;
  readonly deadline: number;
}

class FuzzRun {
  readonly #options: FuzzOptions;
  readonly #targets: readonly Target[];
  readonly #arenas: readonly Arena[];
  readonly #tallies = new Map<string, Tally>();
  readonly #violations: Violations;
  readonly #worst = new Map<string, Costly>();
  readonly #observations: Observations;
  /** The number of the next input, by series. */
  readonly #numbers = new Map<string, number>();
  readonly #startedAt = performance.now();
  #seed = firstSeed;
  #measured = 0;

  constructor(options: FuzzOptions, chosen: readonly Target[], arenas: readonly Arena[]) {
    this.#options = options;
    this.#targets = chosen;
    this.#arenas = arenas;
    this.#observations = new Observations(arenas, (line) => this.#say(line));
    this.#violations = new Violations({ ...options, say: (line) => this.#say(line) });
    for (const { name } of chosen) this.#tallies.set(name, { inputs: 0, frames: 0, requests: 0, refused: 0, ms: 0 });
  }

  /** @param stop ends the arenas, and returns whether in order */
  async run(stop: () => Promise<boolean>): Promise<FuzzReport> {
    await pause(settleMs);
    const before = await resourcesOf(this.#arenas);
    const memory = await this.#fuzz();
    for (const arena of this.#arenas) await arena.dismissAudience();
    const left = await leftovers(this.#arenas, before, this.#options.signal);
    await this.#collectFindings();
    await this.#observations.collectHonest();
    const contained = await this.#observations.contained();
    const { seed } = this.#options;
    const found = {
      seed,
      seconds: (performance.now() - this.#startedAt) / 1_000,
      tallies: Object.fromEntries(this.#tallies),
      honest: this.#observations.honest,
      starved: this.#arenas.reduce((sum, { starved }) => sum + starved, 0),
      honestFailures: this.#observations.honestFailures,
      memory,
      contained,
      leftovers: left,
      worst: [...this.#worst.values()].sort((a, b) => b.turnMs - a.turnMs),
      measured: this.#measured,
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
    await this.#replayCorpus();
    await this.#round(Math.min(roundMs, seconds * 1_000 * warmUpShare));
    const before = await this.#memory();
    this.#seed = this.#options.seed;
    this.#numbers.clear();
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
    return this.#isAborted || this.#leftMs <= 0 || this.#targets.every((target) => this.#isEnough(target));
  }

  get #isAborted(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  #isEnough({ counts }: Target): boolean {
    const sum = [...this.#tallies.values()].reduce((total, tally) => total + tally[counts], 0);
    return sum >= this.#options[counts];
  }

  async #round(ms: number): Promise<void> {
    const left = this.#targets.filter((target) => !this.#isEnough(target));
    const share = this.#options.seconds === Infinity ? massShare.counted : massShare.timed;
    const weights = left.reduce((sum, { weight }) => sum + weight, 0);
    for (const target of left) {
      if (this.#isAborted) return;
      await this.#slice(target, (ms * share * target.weight) / weights);
      await this.#observations.collectHonest();
    }
    for (const target of left) {
      if (this.#isAborted) return;
      await this.#costs(target, (ms * (1 - share)) / left.length);
      await this.#observations.collectHonest();
    }
  }

  /** Plays inputs of one target, many at once. */
  async #slice(target: Target, ms: number): Promise<void> {
    const arena = this.#arena(target);
    const tally = this.#tally(target);
    const earlier = { ...tally };
    const deadline = performance.now() + ms;
    while (performance.now() < deadline && !this.#isEnough(target) && !this.#isAborted) {
      const startedAt = performance.now();
      const suspects: Input[] = [];
      const findings: Finding[] = [];
      let stopped = false;
      const watching = setInterval(() => {
        findings.push(...arena.watches.flatMap((watch) => watch.findings()));
        stopped ||= findings.some(({ signature }) => !this.#violations.knows(signature)) || this.#isEnough(target);
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
    this.#say(`${target.name}: ${tallyText(now)}`);
  }

  async #playNext(target: Target, { suspects, tally, deadline }: Slice): Promise<void> {
    const input = inputOf(target, this.#seed, this.#nextNumber(target.name));
    suspects.push(input);
    if (suspects.length > 2 * maxSuspects) suspects.splice(0, maxSuspects);
    try {
      const { frames, requests, refused } = await this.#arena(target).play(input, { deadline });
      tally.inputs++;
      tally.frames += frames;
      tally.requests += requests;
      if (refused) tally.refused++;
    } catch (error) {
      if (this.#arena(target).hasDead) return;
      const { message: text } = error as Error;
      const { name } = target;
      this.#violations.add({
        kind: "unanswered",
        signature: `unanswered: ${text}`,
        text,
        target: name,
        inputs: [input],
      });
    }
  }

  async #found({ name, arena }: Target, finding: Finding, suspects: readonly Input[]): Promise<void> {
    if (!this.#violations.knows(finding.signature)) await this.#observations.collectHonest();
    await this.#violations.addFinding(this.#named(arena), name, finding, suspects);
  }

  /** Plays single costly inputs of one target, one after the other. */
  async #costs(target: Target, ms: number): Promise<void> {
    const arena = this.#arena(target);
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
    this.#say(`${target.name}: ${meter.measured} single inputs measured`);
  }

  async #cost(meter: CostMeter, target: Target, input: Input): Promise<void> {
    for (const { process, standing, turnMs } of await meter.measure(target, input)) {
      const limitMs = limits[standing] * this.#options.costFactor;
      if (turnMs <= limitMs) continue;
      const signature = `${process} blocked by ${target.name}, ${standing}`;
      const text = `${turnMs.toFixed(1)} ms of CPU in one turn, of ${limitMs}`;
      if (!this.#violations.add({ kind: "blocked", signature, text, target: target.name })) continue;
      await this.#violations.hunt(this.#arena(target), signature, async (withinMs) => {
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

  async #replayCorpus(): Promise<void> {
    let replayed = 0;
    for (const [file, { target: name, inputs, costly }] of readCorpus()) {
      const target = this.#targets.find((candidate) => candidate.name === name);
      if (!target || this.#isAborted) continue;
      const arena = this.#arena(target);
      for (const input of inputs) await arena.play(input);
      if (costly) {
        const meter = await CostMeter.open(arena, this.#worst);
        for (const input of inputs) await this.#cost(meter, target, input);
        meter.close();
      } else await pause(afterReplayMs);
      for (const { kind, signature, text } of await arena.findings()) {
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
    this.#say(JSON.stringify(await this.#arena(target).play(input)));
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

  #nextNumber(series: string): number {
    const number = this.#numbers.get(series) ?? 0;
    this.#numbers.set(series, number + 1);
    return number;
  }

  #arena({ arena }: Target): Arena {
    return this.#named(arena);
  }

  #named(name: string): Arena {
    const arena = this.#arenas.find((candidate) => candidate.name === name);
    if (!arena) throw new Error(`no such arena: ${name}`);
    return arena;
  }

  #tally({ name }: Target): Tally {
    const tally = this.#tallies.get(name);
    if (!tally) throw new Error(`no such target: ${name}`);
    return tally;
  }

  #say(line: string): void {
    this.#options.say(`${((performance.now() - this.#startedAt) / 1_000).toFixed(1)} s ${line}`);
  }
}
