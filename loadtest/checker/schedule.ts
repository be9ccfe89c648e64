/** One random schedule: clients and publishers at work, faults drawn from a seed, and the verdict on the result. */
import { setTimeout as pause } from "node:timers/promises";
import { tokens } from "../../test/support/fleet.ts";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import { userToken } from "../../test/support/stock-client.ts";
import type { Verdict } from "./ledger.ts";
import type { Publisher } from "./publisher.ts";
import { CheckerRun } from "./run.ts";
import { FaultRunner, type LossWindow } from "./fault-runner.ts";
import { type Arena, historySizes } from "./schedule-arena.ts";
import type { Fault } from "./schedule-faults.ts";
import type { ScheduleResult } from "./schedule-series.ts";

export interface ScheduleOptions {
  readonly arena: Arena;
  readonly seed: string;
  readonly index: number;
  /** Faults that this schedule must run; others are drawn. */
  readonly turns: readonly Fault[];
}

const clientCount = 4;
const settleMs = 45_000;
/** Average pause between two publications of a publisher; there is none within a burst. */
const publishPauseMs = 40;
const publishWithinMs = 10_000;

export async function runSchedule(options: ScheduleOptions): Promise<ScheduleResult<Verdict>> {
  const token = await userToken({ sub: `user-${options.index}` });
  return new Schedule(options, token).run();
}

class Schedule {
  readonly #arena: Arena;
  readonly #seed: string;
  readonly #index: number;
  readonly #turns: readonly Fault[];
  readonly #random: SeededRandom;
  readonly #channels: readonly string[];
  readonly #checker: CheckerRun;
  readonly #ending = new AbortController();
  readonly #lossWindows: LossWindow[] = [];
  readonly #faults: FaultRunner;
  #verdicts: Verdict[] = [];

  /** @param token for all of the schedule's clients */
  constructor({ arena, seed, index, turns }: ScheduleOptions, token: string) {
    this.#arena = arena;
    this.#seed = seed;
    this.#index = index;
    this.#turns = turns;
    this.#random = new SeededRandom(`${seed}/${index}`);
    this.#faults = new FaultRunner({
      seed: `${seed}/${index}`,
      random: this.#random,
      busy: new Set(),
      lossWindows: this.#lossWindows,
    });
    this.#channels = [`whole:${index}-a`, `whole:${index}-b`, `brief:${index}-c`];
    const { gatewayUrls, apiUrl } = arena.deployment;
    this.#checker = new CheckerRun({
      gatewayUrls,
      api: { url: apiUrl, token: tokens.service },
      token,
      channels: this.#channels,
      clients: clientCount,
      publishers: 2,
      reconnectMs: 300,
      random: new SeededRandom(`${seed}/${index}/clients`).next,
    });
  }

  async run(): Promise<ScheduleResult<Verdict>> {
    const { failures, kinds } = this.#faults;
    try {
      this.#checker.start();
      if (!(await this.#checker.allFollow(settleMs))) failures.push("a client could not follow at the start");
      const publishing = [...this.#checker.publishers.values()].flat().map(async (publisher, n) => {
        await this.#publishOn(publisher, new SeededRandom(`${this.#seed}/${this.#index}/publisher-${n}`));
      });
      await this.#runFaults();
      this.#faults.note("everything heals");
      await this.#arena.whole();
      await pause(this.#random.between(0, 500));
      this.#ending.abort();
      await Promise.all(publishing);
      this.#faults.note("the last publications");
      this.#verdicts = await this.#checker.finish({
        withinMs: settleMs,
        historySize: (channel) => (channel.startsWith("brief:") ? historySizes.brief : historySizes.whole),
        lossDeclared: this.#lossWindows.length > 0,
      });
    } catch (error) {
      failures.push(String(error));
    } finally {
      this.#ending.abort();
      await this.#faults.stop();
      this.#checker.stop();
    }
    failures.push(...this.#arena.deployment.deaths());
    return {
      index: this.#index,
      arena: this.#arena.kind,
      faults: kinds,
      verdicts: this.#verdicts,
      failures,
      trace: () => this.#trace(),
    };
  }

  async #runFaults(): Promise<void> {
    const random = this.#random;
    for (const fault of this.#turns) {
      await pause(random.between(50, 300));
      await this.#faults.beginOnceFree(fault);
      for (let step = random.between(1, 2); step > 0; step--) {
        await pause(random.between(50, 700));
        this.#disturbClient();
        if (random.next() < 0.4) this.#faults.begin(random.pick(this.#arena.drawn));
      }
    }
    await this.#faults.allEnd();
  }

  #disturbClient(): void {
    const { clients } = this.#checker;
    const client = this.#random.pick(clients);
    const channel = this.#random.pick(this.#channels);
    const name = `client-${clients.indexOf(client) + 1}`;
    const acts = [
      () => (client.drop(), "drops its connection"),
      () => (client.leave(channel), `leaves ${channel}`),
      () => (client.follow(channel), `follows ${channel}`),
      () => (client.followAll(), "follows all"),
    ];
    this.#faults.note(`${name} ${this.#random.pick(acts)()}`);
  }

  async #publishOn(publisher: Publisher, own: SeededRandom): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      const burst = own.next() < 0.05 ? own.between(5, 40) : 1;
      for (let n = 0; n < burst && !signal.aborted; n++) await publisher.publish(publishWithinMs);
      await pause(own.between(0, publishPauseMs * 2), undefined, { signal }).catch(() => undefined);
    }
  }

  #trace(): string {
    const violations = this.#verdicts.flatMap((verdict) => verdict.violations);
    return [
      `schedule ${this.#index} of seed ${this.#seed}, ${this.#arena.kind}, began at ${this.#faults.beganAt}`,
      ...this.#faults.log.map((line) => `  ${line}`),
      ...this.#faults.failures,
      ...violations.map(({ kind, channel, follower, detail }) => `${kind}: ${channel} ${follower ?? ""} ${detail}`),
      ...this.#arena.deployment.lastOutput(),
      ...this.#checker.affected(violations).map(({ channel, follower }) => {
        return `${follower.name} on ${channel}:\n  ${follower.trace.join("\n  ")}`;
      }),
    ].join("\n");
  }
}
