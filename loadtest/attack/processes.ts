/** The runner's side of its processes: the witness, and one attacker after the other. */
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
/** Time for an attacker to end before it is killed. */
const endWithinMs = 5_000;

/** Niceness of the attacker: on few cores the gateway must not wait for the attacker's time slice. */
export const attackerNiceness = 10;

/** Forks a file of this folder; the process ends with this one. */
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

/** Resolves with the first message that `accepts`. Throws where the process ends or the time is up first. */
async function received(
  child: ChildProcess,
  what: string,
  accepts: (message: FromAttacker | FromWitness) => boolean,
): Promise<void> {
  const signal = AbortSignal.timeout(readyWithinMs);
  const accepted = async (): Promise<void> => {
    for (;;) {
      const [message] = (await once(child, "message", { signal })) as [FromAttacker | FromWitness];
      if (accepts(message)) return;
    }
  };
  const ended = once(child, "exit", { signal }).then(([code]) => {
    throw new Error(`the ${what} ended with ${String(code)}`);
  });
  await Promise.race([accepted(), ended]);
  ended.catch(() => undefined);
}

export class Witness {
  readonly #child: ChildProcess;
  readonly #samples: Sample[] = [];
  readonly #late: { atMs: number; lateMs: number }[] = [];

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (message: FromWitness) => {
      if (!("samples" in message)) return;
      this.#samples.push(...message.samples);
      this.#late.push({ atMs: Date.now(), lateMs: message.lateMs });
    });
  }

  /** Resolves once the honest clients are at work. */
  static async start(order: WitnessOrder): Promise<Witness> {
    const child = start("witness.ts");
    const ready = received(child, "witness", (message) => "ready" in message);
    child.send({ witness: order } satisfies ToWitness);
    await ready;
    return new Witness(child);
  }

  /** Samples due from `fromMs` until before `untilMs` (Unix ms). */
  samples(fromMs: number, untilMs: number): Sample[] {
    return this.#samples.filter(({ dueAtMs }) => dueAtMs >= fromMs && dueAtMs < untilMs);
  }

  /** The longest delay of its own event loop: the uncertainty of its samples. */
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
    child.on("message", (message: FromAttacker) => {
      if ("tally" in message) this.tally = message.tally;
    });
  }

  /** Resolves once the attack is prepared: run() starts it at once. */
  static async prepare(order: AttackerOrder): Promise<Attacker> {
    const child = start("attacker.ts", { niceness: attackerNiceness });
    const prepared = received(child, "attacker", (message) => "prepared" in message);
    child.send({ prepare: order } satisfies ToAttacker);
    await prepared;
    return new Attacker(child);
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** Resolves when the attacker has ended; kills it where it does not end in time. */
  async run(runForMs: number): Promise<void> {
    const ended = once(this.#child, "exit");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), runForMs + endWithinMs);
    this.#child.send({ runForMs } satisfies ToAttacker);
    await ended;
    clearTimeout(timer);
  }
}
