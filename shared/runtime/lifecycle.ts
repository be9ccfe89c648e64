import type { Logger } from "./logging.ts";
import { explainStartFailure } from "./start-failure.ts";

/** Call `start` once. `stop` is idempotent and may follow a failed start. */
export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}

interface NamedService {
  name: string;
  service: Service;
}

/** Starts services in order, and stops the started ones in reverse order. */
export class Lifecycle implements Service {
  readonly #services: NamedService[] = [];
  readonly #started: NamedService[] = [];
  readonly #logger: Logger;
  #stopping: Promise<void> | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(name: string, service: Service): void {
    this.#services.push({ name, service });
  }

  /** @throws where a service fails to start, after stopping the ones before it, or where {@link stop} is called meanwhile. */
  async start(): Promise<void> {
    for (const named of this.#services) {
      if (this.#stopping) throw new Error(`stopped before ${named.name} was started`);
      this.#started.push(named);
      try {
        await named.service.start();
      } catch (error) {
        await this.stop();
        throw new Error(`${named.name} could not start: ${(error as Error).message}`, { cause: error });
      }
    }
    if (this.#stopping) throw new Error("stopped before the start ended");
  }

  /** A second call resolves with the first one. */
  async stop(): Promise<void> {
    this.#stopping ??= this.#stopStarted();
    await this.#stopping;
  }

  async #stopStarted(): Promise<void> {
    for (let named = this.#started.pop(); named; named = this.#started.pop()) {
      try {
        await named.service.stop();
      } catch (error) {
        this.#logger.error({ err: error, service: named.name }, "service failed to stop");
      }
    }
  }
}

/** Under npm, Ctrl-C reaches a program twice: from the terminal and from npm. */
const echoMs = 500;

/**
 * Runs a program until SIGTERM or SIGINT, then stops it in order. A second signal, or the deadline, forces the exit.
 * A bug (an uncaught error) is logged and ends the process in the same order, with exit code 1.
 * @param options.settings by variable name: the log names the one that prevents a start.
 */
export async function runProgram(
  program: Service,
  options: { settings: Readonly<Record<string, unknown>>; logger: Logger; stopDeadlineMs: number },
): Promise<void> {
  const { settings, logger, stopDeadlineMs } = options;
  let stoppingSince: number | undefined;

  async function end(exitCode: number): Promise<void> {
    if (stoppingSince !== undefined) {
      if (performance.now() - stoppingSince < echoMs) return;
      logger.warn("forced exit");
      process.exit(1);
    }
    stoppingSince = performance.now();
    const deadline = setTimeout(() => {
      logger.error({ stopDeadlineMs }, "stop deadline passed");
      process.exit(1);
    }, stopDeadlineMs);
    await program.stop();
    clearTimeout(deadline);
    logger.info("stopped");
    process.exit(exitCode);
  }

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      logger.info({ signal }, "stopping");
      void end(0);
    });
  }
  for (const kind of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(kind, (error: unknown) => {
      logger.fatal({ err: error, kind }, "uncaught error, exiting");
      void end(1);
    });
  }

  try {
    await program.start();
  } catch (error) {
    // A signal came during the start: the stop under way ends the process.
    if (stoppingSince !== undefined) return;
    const explained = explainStartFailure(error, settings);
    if (explained === undefined) logger.fatal({ err: error }, (error as Error).message);
    else logger.fatal(explained);
    await end(1);
  }
}
