/**
 * What happens when Redis is killed under load and comes back half a minute later.
 *
 *   npm run loadtest -- redis-outage [--json]
 *
 * Clients follow channels on two nodes while a publisher goes on, before, during and after the outage. Redis keeps an
 * append-only file. It is the process that is killed, not the machine: what the file's `everysec` may lose with a
 * machine is not measured by this.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { RawClient } from "../../test/support/raw-client.ts";
import type { Deployment, Fleet } from "../rig/fleet.ts";
import { Chain } from "../checks/chain.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { connectReader } from "../clients/reader.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { processUsage, UsageRecorder } from "../checks/usage.ts";

const clients = parameter("CLIENTS", 500, 1, 5_000);
const channels = parameter("CHANNELS", 20, 1, 200);
/** Publish calls per second, also while they are refused. */
const rate = parameter("RATE", 200, 1, 1_000);
const outageSeconds = parameter("OUTAGE", 30, 1, 120);
const payloadBytes = parameter("PAYLOAD_BYTES", 256, 0, 10_000);

const beforeSeconds = 15;
const afterSeconds = 10;
/** For everybody to have caught up; one that has not fails the run. */
const catchUpMs = 60_000;
/** Publishes without an answer; what would be due beyond that is left out and counted. */
const maxUnderWay = 2_000;
const publishEveryMs = 10;
const connectAtOnce = 50;
/** Of Node's programs: without it a heap grows by what was never collected, and says nothing about what piles up. */
const heapMiB = 128;
/** Nothing may pile up; a bounded heap and its surroundings move by less. */
const memoryBoundBytes = 96 * 1024 * 1024;

const now = (): number => performance.now();
const channelName = (index: number): string => `load:${index % channels}`;

interface Follower {
  readonly channel: string;
  readonly chain: Chain;
  /** When it had the first publication that was acknowledged after the outage; by `performance.now()`. */
  caughtUpAt: number | undefined;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  say("starting redis, private-api and two gateways");
  const deployment = await fleet.start({ appendOnly: true, heapMiB });
  await putRules(deployment, { namespaces: { load: { historySize: 5_000 } } });
  const publisher = new Publisher(deployment);
  const followers: Follower[] = [];
  const connections: RawClient[] = [];
  let resyncs = 0;
  let closed = 0;
  let ending = false;
  for (let at = 0; at < clients; at += connectAtOnce) {
    const batch = Array.from({ length: Math.min(connectAtOnce, clients - at) }, async (_, i) => {
      const client = await connectReader(deployment, (at + i) % 2);
      const channel = channelName(Math.floor((at + i) / 2));
      const { position } = await client.subscribe(channel);
      const follower: Follower = { channel, chain: new Chain(position), caughtUpAt: undefined };
      client.onEvent = (event, _data, { offset, prev }) => {
        if (event === "sync:resync") resyncs++;
        if (event !== "tick" || offset === undefined) return;
        follower.chain.take({ offset, prev });
        const first = publisher.firstAfterOutage.get(channel);
        if (first !== undefined && offset >= first) follower.caughtUpAt ??= now();
      };
      void client.closed.then(() => {
        if (!ending) closed++;
      });
      followers.push(follower);
      connections.push(client);
    });
    await Promise.all(batch);
  }
  const recorders = deployment.processes
    .filter(({ role }) => role !== "redis")
    .map(({ role, pid }) => ({ role, recorder: new UsageRecorder(() => processUsage(pid)) }));
  for (const { recorder } of recorders) recorder.start();

  say(`publishing ${rate}/s to ${clients} clients`);
  publisher.start();
  await pause(beforeSeconds * 1_000);
  const killedAt = Date.now();
  publisher.phase = "during";
  await fleet.killRedis();
  say(`redis is killed, back in ${outageSeconds} s`);
  await pause(outageSeconds * 1_000);
  await fleet.restartRedis();
  const backAt = now();
  const until = Date.now();
  publisher.phase = "after";
  say("redis is back");
  const caughtUp = (): number => followers.filter(({ caughtUpAt }) => caughtUpAt !== undefined).length;
  while (caughtUp() < clients && now() - backAt < catchUpMs) await pause(20);
  await pause(afterSeconds * 1_000);
  await publisher.stop();
  await pause(2_000);
  for (const { recorder } of recorders) recorder.stop();
  ending = true;
  for (const { socket } of connections) socket.destroy();

  const lost = followers.reduce(
    (sum, { channel, chain }) =>
      sum + [...(publisher.acked.get(channel) ?? [])].filter((o) => !chain.offsets.has(o)).length,
    0,
  );
  const ackedCount = [...publisher.acked.values()].reduce((sum, offsets) => sum + offsets.size, 0);
  const breaks = followers.reduce((sum, { chain }) => sum + chain.breaks, 0);
  const growth = recorders.map(({ role, recorder }) => ({
    role,
    bytes: recorder.peakBytes(killedAt, until) - (recorder.at(killedAt)?.rssBytes ?? 0),
  }));
  const caughtUpAfter = followers.flatMap(({ caughtUpAt }) => (caughtUpAt === undefined ? [] : [caughtUpAt - backAt]));
  const { counts, firstOkAt } = publisher;
  return {
    scenario: "redis-outage",
    parameters: { clients, channels, ratePerSecond: rate, outageSeconds, payloadBytes },
    figures: {
      "publishes before": describe(counts.before),
      "publishes during": describe(counts.during),
      "publishes after": describe(counts.after),
      "slowest refusal": `${Math.max(0, ...publisher.refusalMs).toFixed(0)} ms, p50 ${percentile(publisher.refusalMs, 0.5).toFixed(1)} ms`,
      "not published, too many without an answer": publisher.leftOut,
      "acknowledged in all": ackedCount,
      "from redis' return to the first publish": `${((firstOkAt ?? Number.NaN) - backAt).toFixed(0)} ms`,
      "… to all clients caught up": `${Math.max(...caughtUpAfter).toFixed(0)} ms (${caughtUpAfter.length} of ${clients})`,
      "most memory gained while it was away": growth.map(({ role, bytes }) => `${role} ${mib(bytes)} MiB`).join(", "),
    },
    verdicts: [
      {
        title: "no acknowledged publication is missing at any client",
        pass: lost === 0 && ackedCount > 0,
        value: lost,
      },
      { title: "every publication followed on the one before", pass: breaks === 0, value: breaks },
      { title: "no client was told to resync", pass: resyncs === 0, value: resyncs },
      { title: "no client was closed", pass: closed === 0, value: closed },
      { title: "every client caught up", pass: caughtUpAfter.length === clients, value: caughtUpAfter.length },
      {
        title: "while redis was away every publish was refused with 503 and Retry-After, or its outcome known",
        pass: counts.during.refused > 0 && counts.during.other === 0,
        value: describe(counts.during),
      },
      {
        title: `while it was away no program's memory grew by more than ${mib(memoryBoundBytes)} MiB`,
        pass: growth.every(({ bytes }) => bytes <= memoryBoundBytes),
        value: growth.map(({ bytes }) => mib(bytes)).join(", "),
      },
    ],
  };
}

interface Counts {
  ok: number;
  /** 503 with Retry-After. */
  refused: number;
  other: number;
}

const noCounts = (): Counts => ({ ok: 0, refused: 0, other: 0 });

function describe({ ok, refused, other }: Counts): string {
  return `${ok} ok, ${refused} with 503 and Retry-After, ${other} other`;
}

/** Calls at the rate, whatever the answers. */
class Publisher {
  readonly #deployment: Deployment;
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #due = 0;
  phase: "before" | "during" | "after" = "before";
  readonly counts = { before: noCounts(), during: noCounts(), after: noCounts() };
  readonly refusalMs: number[] = [];
  /** Acknowledged offsets by channel. */
  readonly acked = new Map<string, Set<number>>();
  readonly firstAfterOutage = new Map<string, number>();
  firstOkAt: number | undefined;
  leftOut = 0;

  constructor(deployment: Deployment) {
    this.#deployment = deployment;
  }

  start(): void {
    this.#startedAt = now();
    this.#timer = setInterval(() => {
      for (const until = ((now() - this.#startedAt) / 1_000) * rate; this.#due < until; this.#due++) {
        if (this.#underWay.size >= maxUnderWay) this.leftOut++;
        else this.#begin(channelName(this.#due));
      }
    }, publishEveryMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
  }

  #begin(channel: string): void {
    // By when it was sent: one that is under way when Redis dies belongs to before.
    const counts = this.counts[this.phase];
    const call = this.#publish(channel, counts)
      .catch((error: unknown) => {
        counts.other++;
        if (counts.other < 5) say(String(error));
      })
      .finally(() => this.#underWay.delete(call));
    this.#underWay.add(call);
  }

  async #publish(channel: string, counts: Counts): Promise<void> {
    const { privateApi, privateApiToken } = this.#deployment;
    const sentIn = this.phase;
    const sentAt = now();
    const answer = await fetch(`${privateApi}/v1/publish`, {
      method: "POST",
      headers: { authorization: `Bearer ${privateApiToken}`, "content-type": "application/json" },
      body: JSON.stringify({ channel, event: "tick", data: { filler: "x".repeat(payloadBytes) } }),
      signal: AbortSignal.timeout(20_000),
    });
    if (answer.status === 503 && answer.headers.has("retry-after")) {
      await answer.text();
      counts.refused++;
      this.refusalMs.push(now() - sentAt);
      return;
    }
    if (answer.status !== 200) throw new Error(`publish: ${answer.status} ${await answer.text()}`);
    const { offset } = (await answer.json()) as { offset: number };
    counts.ok++;
    this.acked.set(channel, (this.acked.get(channel) ?? new Set()).add(offset));
    if (sentIn !== "after") return;
    this.firstOkAt ??= now();
    const first = this.firstAfterOutage.get(channel);
    if (first === undefined || offset < first) this.firstAfterOutage.set(channel, offset);
  }
}

function mib(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(1);
}

await runScenario(run);
