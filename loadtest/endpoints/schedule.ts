/** One random schedule: a socket, two endpoints and a puller follow the same channels while faults are drawn from a seed, and the verdict. */
import { setTimeout as pause } from "node:timers/promises";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import { userToken } from "../../test/support/stock-client.ts";
import { FaultRunner, isWithin } from "../checker/fault-runner.ts";
import type { Publisher } from "../checker/publisher.ts";
import { CheckerRun } from "../checker/run.ts";
import type { ScheduleResult } from "../checker/schedule-series.ts";
import { type EndpointArena, historySize } from "./arena.ts";
import { DeliveryLedger, type Expectation } from "./delivery-ledger.ts";
import { createEndpoint, setEndpoint, untilDone } from "./endpoint-calls.ts";
import type { LoggedChange } from "./log.ts";
import { Puller } from "./puller.ts";
import type { ReaderVerdict } from "./violations.ts";

/** Keys of each channel: their publishers. */
const publishersPerChannel = 2;
/** Schedules beside this one go on with their faults, and on a busy machine a program takes more than a minute to start. */
const settleMs = 240_000;
const lossSettleMs = 30_000;
const checkEveryMs = 100;
const publishWithinMs = 10_000;
/** Average pause between two publications of a publisher. */
const publishPauseMs = 100;
/** Part of the publications that come many at once, in one call: more than one script call stores. */
const burstPart = 0.02;
const burst = [20, 300] as const;
/** Part of the pauses in which another fault is drawn. */
const drawnPart = 0.4;
const endpointTimeoutMs = 1_000;

export interface EndpointScheduleOptions {
  readonly arena: EndpointArena;
  readonly seed: string;
  readonly index: number;
  /** Number of the first fault that the schedule must run, in the endless list of the arena's faults. */
  readonly turn: number;
  /** How many of them. */
  readonly turns: number;
}

export async function runEndpointSchedule(options: EndpointScheduleOptions): Promise<ScheduleResult<ReaderVerdict>> {
  return new Schedule(options, await userToken({ sub: `user-${options.index}` })).run();
}

class Schedule {
  readonly #options: EndpointScheduleOptions;
  readonly #arena: EndpointArena;
  readonly #random: SeededRandom;
  readonly #channels: readonly string[];
  readonly #ledgers: readonly DeliveryLedger[];
  readonly #run: CheckerRun;
  readonly #puller: Puller;
  readonly #faults: FaultRunner;
  /** Ends publishing. */
  readonly #ending = new AbortController();
  /** Ends the puller. */
  readonly #ended = new AbortController();
  #verdicts: ReaderVerdict[] = [];

  /** @param token for the schedule's clients */
  constructor(options: EndpointScheduleOptions, token: string) {
    const { arena, index } = options;
    const seed = `${options.seed}/${index}`;
    const { lossWindows, busy, apis } = arena;
    const [api = { url: "", token: "" }] = apis;
    this.#options = options;
    this.#arena = arena;
    this.#random = new SeededRandom(seed);
    this.#faults = new FaultRunner({ seed, random: this.#random, busy, lossWindows });
    this.#channels = ["a", "b", "c"].map((name) => `changes:${index}-${name}`);
    this.#ledgers = [
      new DeliveryLedger(`${index}-channel`, ({ channel }) => channel),
      new DeliveryLedger(`${index}-key`, ({ key }) => key),
    ];
    this.#run = new CheckerRun({
      gatewayUrls: arena.deployment.gatewayUrls,
      ...{ api, token, channels: this.#channels, clients: 1, publishers: publishersPerChannel, reconnectMs: 300 },
      random: new SeededRandom(`${seed}/clients`).next,
    });
    this.#puller = new Puller({ apis, channels: this.#channels, random: new SeededRandom(`${seed}/puller`).next });
  }

  async run(): Promise<ScheduleResult<ReaderVerdict>> {
    const { failures, kinds } = this.#faults;
    let pulling: Promise<void> | undefined;
    try {
      const endpoints = await this.#createEndpoints();
      await untilDone(this.#arena.apis, "the log cannot be read", async () => this.#puller.start());
      const from = this.#puller.cursor;
      pulling = this.#puller.run(this.#ended.signal);
      this.#run.start();
      if (!(await this.#run.allFollow(settleMs))) failures.push("a client could not follow at the start");
      const faultsBefore = this.#arena.faultsBegun();
      const publishing = [...this.#run.publishers.values()].flat().map(async (publisher, n) => {
        await this.#publishOn(
          publisher,
          new SeededRandom(`${this.#options.seed}/${this.#options.index}/publisher-${n}`),
        );
      });
      await this.#runFaults(endpoints);
      await this.#faults.allEnd();
      await this.#resumeAgain(endpoints);
      this.#faults.note("everything heals");
      this.#ending.abort();
      await Promise.all(publishing);
      this.#faults.note("the last publications");
      this.#verdicts = await this.#judge(from, faultsBefore);
    } catch (error) {
      failures.push(String(error));
    } finally {
      this.#ending.abort();
      this.#ended.abort();
      await this.#faults.stop();
      await pulling;
      this.#run.stop();
      for (const ledger of this.#ledgers) this.#arena.receiver.remove(ledger);
    }
    failures.push(...this.#arena.deployment.deaths());
    return {
      index: this.#options.index,
      arena: this.#arena.kind,
      faults: kinds,
      verdicts: this.#verdicts,
      failures,
      trace: () => this.#trace(),
    };
  }

  async #createEndpoints(): Promise<{ id: string }[]> {
    const { receiver, apis } = this.#arena;
    return Promise.all(
      this.#ledgers.map(async (ledger, at) => {
        const endpoint = {
          ...{ channels: this.#channels, timeoutMs: endpointTimeoutMs },
          key: at === 0 ? "channel" : "/key",
        };
        const urlOf = (path: string): string => receiver.urlOf(path);
        const { id, path, secret } = await createEndpoint(apis, endpoint, { path: `/${ledger.name}`, urlOf });
        receiver.add(path, ledger, secret);
        return { id };
      }),
    );
  }

  /** A failover may lose that an endpoint was resumed, though it was acknowledged. */
  async #resumeAgain(endpoints: readonly { readonly id: string }[]): Promise<void> {
    const { apis, lossWindows } = this.#arena;
    if (lossWindows.length === 0) return;
    await Promise.all(endpoints.map(async ({ id }) => setEndpoint(apis, id, "resume")));
  }

  async #publishOn(publisher: Publisher, own: SeededRandom): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      if (own.next() < burstPart) await publisher.publishAtOnce(own.between(...burst), publishWithinMs);
      else await publisher.publish(publishWithinMs);
      await pause(own.between(0, publishPauseMs * 2), undefined, { signal }).catch(() => undefined);
    }
  }

  /** The faults whose turn it is, and others beside them. */
  async #runFaults(endpoints: readonly { id: string }[]): Promise<void> {
    const { turn, turns } = this.#options;
    const random = this.#random;
    const own = this.#arena.faultsFor(endpoints);
    for (let n = turn; n < turn + turns; n++) {
      await pause(random.between(50, 500));
      const fault = own.turns[n % own.turns.length];
      if (fault) await this.#faults.beginOnceFree(fault);
      await pause(random.between(50, 700));
      if (random.next() < 0.5) for (const client of this.#run.clients) client.drop();
      if (own.drawn.length > 0 && random.next() < drawnPart) this.#faults.begin(random.pick(own.drawn));
    }
  }

  /** Waits until every reader has what the log has, or none gets any further. */
  async #judge(from: string, faultsBefore: number): Promise<ReaderVerdict[]> {
    const { lossWindows } = this.#arena;
    const lossDeclared = lossWindows.length > 0;
    const sockets = await this.#run.finish({
      withinMs: settleMs,
      publishWithinMs: settleMs,
      historyWithinMs: settleMs,
      historySize: () => historySize,
      lossDeclared,
    });
    const log = await untilDone(this.#arena.apis, "the log cannot be read", async () => this.#puller.whole(from));
    this.#faults.note(`the log has ${log.length} changes`);
    const readers = [...this.#ledgers, this.#puller];
    const isExplained = ({ at }: LoggedChange): boolean => isWithin(lossWindows, at - performance.timeOrigin);
    let least = Infinity;
    let progressAt = performance.now();
    for (;;) {
      const missing = readers.flatMap((reader) => reader.missing(log));
      if (missing.length < least) progressAt = performance.now();
      least = Math.min(least, missing.length);
      // What a loss explains mostly comes all the same.
      const stalledMs = missing.every(isExplained) ? lossSettleMs : settleMs;
      if (missing.length === 0 || performance.now() - progressAt > stalledMs) break;
      await pause(checkEveryMs);
    }
    this.#faults.note("every reader is done");
    const keys = this.#channels.length * publishersPerChannel;
    const faults = this.#arena.faultsBegun() - faultsBefore;
    const expectation: Expectation = {
      log,
      isExplained,
      lossDeclared,
      maxRepeats: lossDeclared ? Infinity : keys * faults,
    };
    return [
      ...readers.map((reader) => reader.judge(expectation)),
      ...sockets.map(({ channel, deliveries, gone, violations }) => ({
        ...{ reader: `socket on ${channel}`, changes: deliveries, repeats: 0, gone },
        violations: violations.map(({ kind, detail }) => ({ kind: "sockets" as const, detail: `${kind}: ${detail}` })),
      })),
    ];
  }

  #trace(): string {
    const { seed, index } = this.#options;
    const broken = new Set(
      this.#verdicts.filter(({ violations }) => violations.length > 0).map(({ reader }) => reader),
    );
    return [
      `schedule ${index} of seed ${seed}, ${this.#arena.kind}, began at ${this.#faults.beganAt}`,
      ...this.#faults.log.map((line) => `  ${line}`),
      ...this.#faults.failures,
      ...this.#verdicts.flatMap(({ reader, violations }) =>
        violations.map(({ kind, detail }) => `${kind}: ${reader}: ${detail}`),
      ),
      ...this.#arena.deployment.lastOutput(),
      ...this.#ledgers.filter(({ name }) => broken.has(name)).map((ledger) => ledger.trace().join("\n  ")),
    ].join("\n");
  }
}
