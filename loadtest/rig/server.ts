/** One program of a fleet: it keeps its ports and settings, so that it can end and begin again. */
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Spawned, spawnProcess } from "../../test/support/processes.ts";

export type Role = "gateway" | "private-api" | "redis";

export interface ServerOptions {
  readonly role: Role;
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Record<string, string>;
  /** Resolves once it can be used. */
  readonly ready: (spawned: Spawned) => Promise<unknown>;
  /** Called where it ends although nobody ended it. */
  readonly onDied: () => void;
}

const root = join(import.meta.dirname, "../..");
const readyWithinMs = 20_000;

export class Server {
  readonly role: Role;
  readonly name: string;
  readonly #options: ServerOptions;
  #running: Spawned | undefined;
  /** What those printed that have ended. */
  #printedBefore = "";

  constructor(options: ServerOptions) {
    this.role = options.role;
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#running?.child.pid;
  }

  get running(): boolean {
    return this.#running !== undefined;
  }

  /** It has ended although nobody ended it. */
  get died(): boolean {
    const child = this.#running?.child;
    return child !== undefined && (child.exitCode !== null || child.signalCode !== null);
  }

  /** Everything that it printed, also before it was started again. */
  output(): string {
    return this.#printedBefore + (this.#running?.output() ?? "");
  }

  /** Resolves once it is ready. */
  async start(): Promise<void> {
    if (this.#running) throw new Error(`${this.name} runs already`);
    const { command, args, env, ready, onDied } = this.#options;
    const spawned = spawnProcess(command, args, { ...(env && { env }), cwd: root });
    this.#running = spawned;
    endWithUs(spawned);
    const ended = (): void => {
      if (this.#running === spawned) onDied();
    };
    spawned.exited.then(ended, ended);
    await ready(spawned);
  }

  /** SIGKILL. Resolves once it is gone. */
  async kill(): Promise<void> {
    const spawned = this.#forget();
    spawned?.kill("SIGKILL");
    await spawned?.exited;
  }

  /** SIGTERM, and SIGKILL for whoever does not leave in time. */
  async stop(withinMs: number): Promise<{ exitCode: number | null; tookMs: number }> {
    const startedAt = performance.now();
    const spawned = this.#forget();
    spawned?.kill("SIGTERM");
    const tooLate = setTimeout(() => spawned?.kill("SIGKILL"), withinMs);
    const exitCode = (await spawned?.exited) ?? null;
    clearTimeout(tooLate);
    if (spawned) this.#printedBefore += spawned.output();
    return { exitCode, tookMs: performance.now() - startedAt };
  }

  #forget(): Spawned | undefined {
    const spawned = this.#running;
    this.#running = undefined;
    return spawned;
  }
}

/** Until `/readyz` says so. */
export async function answersReady(server: Spawned, url: string): Promise<void> {
  const deadline = Date.now() + readyWithinMs;
  while (server.child.exitCode === null && Date.now() < deadline) {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
    if (answer?.ok) return;
    await pause(50);
  }
  throw new Error(`${url} did not become ready`);
}

const endedWithUs = new Set<Spawned>();
process.once("exit", () => {
  for (const spawned of endedWithUs) spawned.kill("SIGKILL");
});

/** However this process ends, so does that one. */
export function endWithUs(spawned: Spawned): void {
  endedWithUs.add(spawned);
  const ended = (): void => void endedWithUs.delete(spawned);
  spawned.exited.then(ended, ended);
}
