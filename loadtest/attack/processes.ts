/** The runner's side of its processes: the honest clients, and one attacker after the other. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Tally } from "./attack.ts";
import type {
  AttackerOrder,
  FromAttacker,
  FromWitness,
  Sample,
  ToAttacker,
  ToWitness,
  WitnessOrder,
} from "./orders.ts";

const readyWithinMs = 30_000;
/** For an attacker whose time is up, before it is killed. */
const endWithinMs = 5_000;

/** The attacker's, as `nice` takes it: on few cores the gateway must not wait for the attacker's turn to end. */
export const attackerNiceness = 10;

/** A process of the folder that talks to this one, and ends with it. */
function start(file: string, options: { niceness?: number } = {}): ChildProcess {
  const { niceness } = options;
  const child = fork(join(import.meta.dirname, file), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    ...(niceness !== undefined && { execPath: "nice", execArgv: ["-n", String(niceness), process.execPath] }),
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

const children = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

/** @throws where the process ends, or the time is up, before it says something that `accepts` */
async function hear(
  child: ChildProcess,
  what: string,
  accepts: (word: FromAttacker | FromWitness) => boolean,
): Promise<void> {
  const signal = AbortSignal.timeout(readyWithinMs);
  const heard = async (): Promise<void> => {
    for (;;) {
      const [word] = (await once(child, "message", { signal })) as [FromAttacker | FromWitness];
      if (accepts(word)) return;
    }
  };
  const ended = once(child, "exit", { signal }).then(([code]) => {
    throw new Error(`the ${what} ended with ${String(code)}`);
  });
  await Promise.race([heard(), ended]);
  ended.catch(() => undefined);
}

export class Witness {
  readonly #child: ChildProcess;
  readonly #samples: Sample[] = [];
  readonly #late: { atMs: number; lateMs: number }[] = [];

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (word: FromWitness) => {
      if (!("samples" in word)) return;
      this.#samples.push(...word.samples);
      this.#late.push({ atMs: Date.now(), lateMs: word.lateMs });
    });
  }

  /** Resolves once the honest clients are at work. */
  static async start(order: WitnessOrder): Promise<Witness> {
    const child = start("witness.ts");
    const ready = hear(child, "witness", (word) => "ready" in word);
    child.send({ witness: order } satisfies ToWitness);
    await ready;
    return new Witness(child);
  }

  /** What was due from one moment until before the other (Unix ms). */
  samples(fromMs: number, untilMs: number): Sample[] {
    return this.#samples.filter(({ dueAtMs }) => dueAtMs >= fromMs && dueAtMs < untilMs);
  }

  /** By how much its own event loop was late at most: what it measured is uncertain by as much. */
  lateMs(fromMs: number, untilMs: number): number {
    const within = this.#late.filter(({ atMs }) => atMs >= fromMs && atMs < untilMs);
    return within.reduce((most, { lateMs }) => Math.max(most, lateMs), 0);
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}

export class Attacker {
  readonly #child: ChildProcess;
  tally: Tally | undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (word: FromAttacker) => {
      if ("tally" in word) this.tally = word.tally;
    });
  }

  /** Resolves once it has what it needs: `run` begins at once. */
  static async prepare(order: AttackerOrder): Promise<Attacker> {
    const child = start("attacker.ts", { niceness: attackerNiceness });
    const prepared = hear(child, "attacker", (word) => "prepared" in word);
    child.send({ prepare: order } satisfies ToAttacker);
    await prepared;
    return new Attacker(child);
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** Resolves when it has ended: by itself when the time is up, else it is killed. */
  async run(runForMs: number): Promise<void> {
    const ended = once(this.#child, "exit");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), runForMs + endWithinMs);
    this.#child.send({ runForMs } satisfies ToAttacker);
    await ended;
    clearTimeout(timer);
  }
}
