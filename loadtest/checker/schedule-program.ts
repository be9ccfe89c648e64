/** A gateway or private API as a process that can be killed, frozen, stopped and restarted on its ports. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { withDeadline } from "../../shared/runtime/timing.ts";
import { eventually } from "../../test/support/eventually.ts";
import { type Spawned, spawnProcess } from "../../test/support/processes.ts";

const root = join(import.meta.dirname, "../..");
const clockModule = pathToFileURL(join(import.meta.dirname, "stepped-clock.ts")).href;
/** They only end a wait in vain: a dozen processes may start at once, on a machine that is busy besides. */
const readyWithinMs = 300_000;
const stopWithinMs = 300_000;
const answerWithinMs = 2_000;

/** The answer to `/readyz`. */
interface Health {
  readonly status: string;
  readonly [member: string]: unknown;
}

export interface ProgramOptions {
  readonly kind: "gateway" | "private-api";
  readonly name: string;
  /** Of the port that answers `/readyz`. */
  readonly healthUrl: string;
  readonly settings: Readonly<Record<string, string>>;
  /** For its clock. */
  readonly folder: string;
}

export class Program {
  readonly name: string;
  readonly #options: ProgramOptions;
  readonly #clockFile: string;
  #running: Spawned | undefined;
  #died = false;

  constructor(options: ProgramOptions) {
    this.name = options.name;
    this.#options = options;
    this.#clockFile = join(options.folder, `${options.name}.clock`);
  }

  get running(): boolean {
    return this.#running !== undefined;
  }

  /** Ended by itself. */
  get died(): boolean {
    return this.#died;
  }

  output(): string {
    return this.#running?.output() ?? "";
  }

  restart(): void {
    const { kind, settings } = this.#options;
    const env = { LOG_LEVEL: "error", ...process.env, ...settings, CLOCK_FILE: this.#clockFile };
    const spawned = spawnProcess(process.execPath, ["--import", clockModule, `${kind}/main.ts`], { cwd: root, env });
    this.#running = spawned;
    const ended = (): void => {
      if (this.#running === spawned) this.#died = true;
    };
    spawned.exited.then(ended, ended);
  }

  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** SIGTERM; resolves when the process is gone. */
  async terminate(): Promise<void> {
    const terminated = this.#running;
    const inTime = await withDeadline(
      this.#end("SIGTERM").then(() => true),
      stopWithinMs,
      () => false,
    );
    if (inTime) return;
    terminated?.kill("SIGKILL");
    throw new Error(`${this.name} did not stop within ${stopWithinMs} ms\n${terminated?.output() ?? ""}`);
  }

  signal(signal: NodeJS.Signals): void {
    this.#running?.kill(signal);
  }

  /** From now on its wall clock is so far ahead of the machine's. */
  async stepClock(aheadMs: number): Promise<void> {
    await writeFile(this.#clockFile, String(aheadMs));
    this.#running?.kill("SIGUSR2");
  }

  /** Undefined: no answer in time. */
  async health(): Promise<Health | undefined> {
    const signal = AbortSignal.timeout(answerWithinMs);
    try {
      const answer = await fetch(`${this.#options.healthUrl}/readyz`, { signal });
      return (await answer.json()) as Health;
    } catch {
      return undefined;
    }
  }

  async ready(): Promise<void> {
    let health: Health | undefined;
    const isReady = async (): Promise<boolean> => {
      health = await this.health();
      return health?.status === "ok";
    };
    await eventually(async () => this.#died || isReady(), readyWithinMs).catch((error: unknown) => {
      throw new Error(`${this.name} is not ready: ${JSON.stringify(health)}\n${this.output()}`, { cause: error });
    });
    if (this.#died) throw new Error(`${this.name} ended by itself:\n${this.output()}`);
  }

  async #end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const ended = this.#running;
    this.#running = undefined;
    ended?.kill(signal);
    await ended?.exited;
  }
}
