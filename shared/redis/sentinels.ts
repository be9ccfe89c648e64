import type { Redis } from "ioredis";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import { addressText } from "./address.ts";
import { cutOff, isTimeout } from "./client.ts";
import type { HostAndPort, PrimarySource } from "./primary-connector.ts";

/** Interval of the questions to each sentinel: while the primary serves this process, and while it does not. */
const calmMs = 1_000;
const searchingMs = 250;
/** An answer counts until the sentinel has missed three more. */
const answerLastsMs = 3 * calmMs;

interface Answer {
  readonly address: HostAndPort;
  /** Version of the configuration; grows with each failover. */
  readonly epoch: number;
  readonly at: number;
}

interface Sentinel {
  readonly client: Redis;
  answer: Answer | undefined;
  /** Why the last question failed. */
  failure: Error | undefined;
  /** Last error of the connection: more telling than the error of a question that failed because of it. */
  connectionError: Error | undefined;
  asking: boolean;
  askedAt: number;
}

interface SentinelsOptions {
  name: string;
  /** One per sentinel; their commands fail within a bounded time. */
  clients: readonly Redis[];
  /** Whether the primary is missing or unusable. */
  searching: () => boolean;
  /** Called when the address of the primary changes, or becomes known. */
  onMoved: () => void;
  errors: ContainedErrors;
  logger: Logger;
}

/**
 * Asks the sentinels again and again where the primary is. The newest configuration wins: right after an election some sentinels
 * still name the former primary.
 */
export class Sentinels implements Service, PrimarySource {
  readonly #options: SentinelsOptions;
  readonly #sentinels: readonly Sentinel[];
  #address: HostAndPort | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: SentinelsOptions) {
    this.#options = options;
    this.#sentinels = options.clients.map((client) => {
      const sentinel: Sentinel = {
        client,
        answer: undefined,
        failure: undefined,
        connectionError: undefined,
        asking: false,
        askedAt: -Infinity,
      };
      client.on("error", (error: Error) => (sentinel.connectionError = error));
      client.on("ready", () => (sentinel.connectionError = undefined));
      return sentinel;
    });
  }

  async start(): Promise<void> {
    this.#timer = this.#options.errors.every(searchingMs, () => this.#askDue());
    this.#askDue();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    for (const { client } of this.#sentinels) client.disconnect();
  }

  locate(): HostAndPort {
    if (this.#address) return this.#address;
    const failure = this.#sentinels.find((sentinel) => sentinel.failure)?.failure;
    throw new Error(`no sentinel names the primary ${this.#options.name}`, { cause: failure });
  }

  #askDue(): void {
    const now = performance.now();
    const everyMs = this.#options.searching() ? searchingMs : calmMs;
    for (const sentinel of this.#sentinels) {
      // Half an interval of tolerance: a tick may come early.
      if (!sentinel.asking && now - sentinel.askedAt >= everyMs - searchingMs / 2) {
        this.#options.errors.contain("store", () => this.#ask(sentinel));
      }
    }
  }

  async #ask(sentinel: Sentinel): Promise<void> {
    sentinel.asking = true;
    sentinel.askedAt = performance.now();
    try {
      sentinel.answer = await askForPrimary(sentinel.client, this.#options.name);
      sentinel.failure = undefined;
    } catch (error) {
      // The connection may be half open: replace it.
      if (isTimeout(error)) cutOff(sentinel.client, "");
      this.#noteFailure(sentinel, sentinel.connectionError ?? (error as Error));
    }
    sentinel.asking = false;
    this.#decide();
  }

  #noteFailure(sentinel: Sentinel, failure: Error): void {
    const isKnown = sentinel.failure?.message === failure.message;
    sentinel.failure = failure;
    if (isKnown || this.#stopped) return;
    const { host = "", port = 0 } = sentinel.client.options;
    this.#options.logger.warn(
      { err: failure, sentinel: addressText({ host, port }) },
      "a sentinel does not name the primary",
    );
  }

  #decide(): void {
    const oldest = performance.now() - answerLastsMs;
    const answers = this.#sentinels.flatMap(({ answer }) => (answer && answer.at >= oldest ? [answer] : []));
    const epoch = Math.max(...answers.map((answer) => answer.epoch));
    const newest = answers.filter((answer) => answer.epoch === epoch).map(({ address }) => address);
    const known = this.#address && addressText(this.#address);
    // Among equally new answers the known address wins.
    const address = newest.find((named) => addressText(named) === known) ?? newest[0];
    if (!address || addressText(address) === known) return;
    this.#address = address;
    this.#options.logger.info({ primary: addressText(address), before: known }, "primary located by the sentinels");
    this.#options.onMoved();
  }
}

/** Asks for the epoch first: between the two answers the sentinel may learn a newer address, never an older one. */
async function askForPrimary(client: Redis, name: string): Promise<Answer> {
  const [fields, address] = await Promise.all([
    // Without the right to ask for the epoch, all answers count as equally new.
    (client.call("SENTINEL", "MASTER", name) as Promise<string[]>).catch((): string[] => []),
    client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name) as Promise<[string, string] | null>,
  ]);
  if (!address) throw new Error("the sentinel knows no primary of that name");
  const [host, port] = address;
  const at = fields.indexOf("config-epoch");
  const epoch = at < 0 ? 0 : Number(fields[at + 1]);
  return { address: { host, port: Number(port) }, epoch, at: performance.now() };
}
