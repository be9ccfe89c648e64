import type { Redis } from "ioredis";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import { addressText } from "./address.ts";
import { cutOff, isTimeout } from "./connect.ts";
import type { HostAndPort, PrimarySource } from "./primary-connector.ts";

/** How often each sentinel is asked: while the primary serves us, and while it does not. */
const calmMs = 1_000;
const searchingMs = 250;
/** An answer counts until the sentinel should have given three more. */
const answerLastsMs = 3 * calmMs;

interface Answer {
  readonly address: HostAndPort;
  /** Of the configuration: grows with each failover. */
  readonly epoch: number;
  readonly at: number;
}

interface Sentinel {
  readonly client: Redis;
  answer: Answer | undefined;
  /** Why the last question had no answer. */
  failure: Error | undefined;
  /** What its connection failed with last: says more than what becomes of a question then. */
  connectionError: Error | undefined;
  asking: boolean;
  askedAt: number;
}

/**
 * Keeps asking the sentinels where the primary is. The newest configuration that one of them knows counts: right after an election
 * the others may still name the former primary.
 */
export class Sentinels implements Service, PrimarySource {
  readonly #name: string;
  readonly #sentinels: readonly Sentinel[];
  readonly #searching: () => boolean;
  readonly #onMoved: () => void;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  #address: HostAndPort | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /**
   * @param options.clients one for each sentinel, which fail within a bounded time.
   * @param options.searching the primary is missed, or of no use.
   * @param options.onMoved it is somewhere else than before, or known for the first time.
   */
  constructor(options: {
    name: string;
    clients: readonly Redis[];
    searching: () => boolean;
    onMoved: () => void;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    this.#name = options.name;
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
    this.#searching = options.searching;
    this.#onMoved = options.onMoved;
    this.#errors = options.errors;
    this.#logger = options.logger;
  }

  async start(): Promise<void> {
    this.#timer = this.#errors.every(searchingMs, () => this.#askDue());
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
    throw new Error(`no sentinel names the primary ${this.#name}`, { cause: failure });
  }

  #askDue(): void {
    const now = performance.now();
    const everyMs = this.#searching() ? searchingMs : calmMs;
    for (const sentinel of this.#sentinels) {
      // A tick may come a little early.
      if (!sentinel.asking && now - sentinel.askedAt >= everyMs - searchingMs / 2) {
        this.#errors.contain("store", () => this.#ask(sentinel));
      }
    }
  }

  async #ask(sentinel: Sentinel): Promise<void> {
    sentinel.asking = true;
    sentinel.askedAt = performance.now();
    try {
      sentinel.answer = await askForPrimary(sentinel.client, this.#name);
      sentinel.failure = undefined;
    } catch (error) {
      // Half open, perhaps: another connection may fare better.
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
    this.#logger.warn(
      { err: failure, sentinel: addressText({ host, port }) },
      "a sentinel does not say where redis is",
    );
  }

  #decide(): void {
    const oldest = performance.now() - answerLastsMs;
    const answers = this.#sentinels.flatMap(({ answer }) => (answer && answer.at >= oldest ? [answer] : []));
    const epoch = Math.max(...answers.map((answer) => answer.epoch));
    const newest = answers.filter((answer) => answer.epoch === epoch).map(({ address }) => address);
    const known = this.#address && addressText(this.#address);
    // Of two that are equally new the one that is known.
    const address = newest.find((named) => addressText(named) === known) ?? newest[0];
    if (!address || addressText(address) === known) return;
    this.#address = address;
    this.#logger.info({ primary: addressText(address), before: known }, "the sentinels name the primary");
    this.#onMoved();
  }
}

/** The epoch first: between the two answers the sentinel may learn of a newer address, never of an older one. */
async function askForPrimary(client: Redis, name: string): Promise<Answer> {
  const [fields, address] = await Promise.all([
    // Without the right to ask for it all are equally new.
    (client.call("SENTINEL", "MASTER", name) as Promise<string[]>).catch((): string[] => []),
    client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name) as Promise<[string, string] | null>,
  ]);
  if (!address) throw new Error("the sentinel knows no primary of that name");
  const [host, port] = address;
  const at = fields.indexOf("config-epoch");
  const epoch = at < 0 ? 0 : Number(fields[at + 1]);
  return { address: { host, port: Number(port) }, epoch, at: performance.now() };
}
