/** One program of a fleet; it keeps its ports and settings across restarts. */
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
  /** Default: this checkout. */
  readonly folder?: string;
  /** Resolves once the program can be used. */
  readonly ready: (spawned: Spawned) => Promise<unknown>;
  /** Called when the process ends without stop() or kill(). */
  readonly onDied: () => void;
}

const root = join(import.meta.dirname, "../..");
/** Only ends a wait in vain: a dozen programs may start at once, on a machine that is busy besides. */
const readyWithinMs = 300_000;

export class Server {
  readonly role: Role;
  readonly name: string;
  readonly #options: ServerOptions;
  #running: Spawned | undefined;
  /** Output of earlier processes. */
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

  /** The process ended without stop() or kill(). */
  get died(): boolean {
    const child = this.#running?.child;
    return child !== undefined && (child.exitCode !== null || child.signalCode !== null);
  }

  /** Everything printed so far, earlier processes included. */
  output(): string {
    return this.#printedBefore + (this.#running?.output() ?? "");
  }

  /** Resolves once the program is ready. */
  async start(): Promise<void> {
    if (this.#running) throw new Error(`${this.name} is already running`);
    const { command, args, env, folder = root, ready, onDied } = this.#options;
    const spawned = spawnProcess(command, args, { ...(env && { env }), cwd: folder });
    this.#running = spawned;
    const ended = (): void => {
      if (this.#running === spawned) onDied();
    };
    spawned.exited.then(ended, ended);
    await ready(spawned);
  }

  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#running?.kill(signal);
  }

  /** SIGKILL. Resolves once the process has ended. */
  async kill(): Promise<void> {
    const spawned = this.#forget();
    spawned?.kill("SIGKILL");
    await spawned?.exited;
  }

  /** SIGTERM, then SIGKILL after `withinMs`. */
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

/** Resolves once `/readyz` answers 2xx; throws after {@link readyWithinMs}, or where the process ends. */
export async function answersReady(server: Spawned, url: string): Promise<void> {
  const deadline = Date.now() + readyWithinMs;
  while (server.child.exitCode === null && Date.now() < deadline) {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
    if (answer?.ok) return;
    await pause(50);
  }
  throw new Error(`${url} did not become ready`);
}
