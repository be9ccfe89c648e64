/** One random schedule: clients and publishers at work, faults that a seed draws, and the judgement of what came of it. */
import { setTimeout as pause } from "node:timers/promises";
import { CheckerRun } from "./run.ts";
import type { Verdict } from "./ledger.ts";
import type { Publisher } from "./publisher.ts";
import { tokens } from "../../test/support/fleet.ts";
import { userToken } from "../../test/support/stock-client.ts";
import type { Arena } from "./schedule-arena.ts";
import { historySizes } from "./schedule-deployment.ts";
import type { Fault } from "./schedule-faults.ts";
import { SeededRandom } from "../../test/support/seeded-random.ts";

export interface ScheduleResult {
  readonly index: number;
  readonly arena: string;
  /** By kind. */
  readonly faults: readonly string[];
  readonly verdicts: readonly Verdict[];
  /** Why it could not be judged, or what broke besides the contract. */
  readonly failures: readonly string[];
  /** What was done when, and what concerned clients were told: for where something is wrong. */
  readonly story: () => string;
}

const clientCount = 4;
const settleMs = 45_000;
/** Of each program, in a story. */
const maxOutput = 4_000;
/** Between two publications of a publisher; within a burst none. */
const publishPauseMs = 40;
const publishWithinMs = 10_000;

/** @param options.turns faults that have their turn; others are drawn. */
export async function runSchedule(options: {
  arena: Arena;
  seed: string;
  index: number;
  turns: readonly Fault[];
}): Promise<ScheduleResult> {
  const { arena, seed, index, turns } = options;
  const { deployment } = arena;
  const random = new SeededRandom(`${seed}/${index}`);
  const ending = new AbortController();
  const startedAt = performance.now();
  const log: string[] = [];
  const note = (line: string): void => void log.push(`${(performance.now() - startedAt).toFixed(0)} ${line}`);
  const channels = [`whole:${index}-a`, `whole:${index}-b`, `brief:${index}-c`];
  const run = new CheckerRun({
    gatewayUrls: deployment.gatewayUrls,
    api: { url: deployment.apiUrl, token: tokens.service },
    token: await userToken({ sub: `user-${index}` }),
    channels,
    clients: clientCount,
    publishers: 2,
    reconnectMs: 300,
    random: new SeededRandom(`${seed}/${index}/clients`).next,
  });
  const faults: string[] = [];
  const failures: string[] = [];
  const busy = new Set<object>();
  const running = new Set<Promise<void>>();
  let lossDeclared = false;

  /** @returns whether a target was free. */
  function begin(fault: Fault): boolean {
    const free = fault.targets.filter((target) => !busy.has(target));
    if (free.length === 0) return false;
    const target = random.pick(free);
    busy.add(target);
    faults.push(fault.kind);
    lossDeclared ||= fault.losesWrites ?? false;
    note(`${fault.kind}, target ${fault.targets.indexOf(target) + 1}`);
    const own = new SeededRandom(`${seed}/${index}/${faults.length}`);
    const done = fault
      .run(target, own, ending.signal)
      .catch((error: unknown) => void failures.push(`${fault.kind}: ${String(error)}`))
      .finally(() => {
        note(`${fault.kind} is over`);
        busy.delete(target);
        running.delete(done);
      });
    running.add(done);
    return true;
  }
  function disturbClients(): void {
    const client = random.pick(run.clients);
    const channel = random.pick(channels);
    const which = `client-${run.clients.indexOf(client) + 1}`;
    const acts = [
      () => (client.drop(), "drops its connection"),
      () => (client.leave(channel), `leaves ${channel}`),
      () => (client.follow(channel), `follows ${channel}`),
      () => (client.followAll(), "follows all"),
    ];
    note(`${which} ${random.pick(acts)()}`);
  }
  async function publishOn(publisher: Publisher, own: SeededRandom): Promise<void> {
    while (!ending.signal.aborted) {
      const burst = own.next() < 0.05 ? own.between(5, 40) : 1;
      for (let n = 0; n < burst && !ending.signal.aborted; n++) await publisher.publish(publishWithinMs);
      await pause(own.between(0, publishPauseMs * 2), undefined, { signal: ending.signal }).catch(() => undefined);
    }
  }

  let verdicts: Verdict[] = [];
  try {
    run.start();
    if (!(await run.everybodyFollows(settleMs))) failures.push("not everybody followed in the beginning");
    const publishing = [...run.publishers.values()].flat().map(async (publisher, n) => {
      await publishOn(publisher, new SeededRandom(`${seed}/${index}/publisher-${n}`));
    });
    for (const fault of turns) {
      await pause(random.between(50, 300));
      while (!begin(fault)) await Promise.race(running);
      for (let step = random.between(1, 2); step > 0; step--) {
        await pause(random.between(50, 700));
        disturbClients();
        if (random.next() < 0.4) begin(random.pick(arena.drawn));
      }
    }
    await Promise.all(running);
    note("everything heals");
    await arena.whole();
    await pause(random.between(0, 500));
    ending.abort();
    await Promise.all(publishing);
    note("the last publications");
    verdicts = await run.finish({
      withinMs: settleMs,
      historySize: (channel) => (channel.startsWith("brief:") ? historySizes.brief : historySizes.whole),
      lossDeclared,
    });
  } catch (error) {
    failures.push(String(error));
  } finally {
    ending.abort();
    await Promise.all(running);
    run.stop();
  }
  for (const program of [deployment.privateApi, ...deployment.gateways]) {
    if (program.died) failures.push(`${program.name} died: ${program.output().slice(-2_000)}`);
  }
  return { index, arena: arena.kind, faults, verdicts, failures, story };

  function story(): string {
    const violated = verdicts.flatMap(({ violations }) => violations);
    return [
      `schedule ${index} of seed ${seed}, ${arena.kind}`,
      ...log.map((line) => `  ${line}`),
      ...failures,
      ...[deployment.privateApi, ...deployment.gateways].map(
        ({ name, output }) => `${name} printed:\n${output().slice(-maxOutput)}`,
      ),
      ...violated.map(({ kind, channel, follower, detail }) => `${kind}: ${channel} ${follower ?? ""} ${detail}`),
      ...run.concerned(violated).map(({ channel, follower }) => {
        return `${follower.name} on ${channel}:\n  ${follower.trace.join("\n  ")}`;
      }),
    ].join("\n");
  }
}
