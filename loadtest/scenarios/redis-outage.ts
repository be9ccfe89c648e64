/**
 * Redis is killed under load and restarts half a minute later.
 *
 *   npm run loadtest -- redis-outage [--json]
 *   CLIENTS (500) CHANNELS (20) RATE (200/s) OUTAGE (30 s) PAYLOAD_BYTES (256)
 *
 * Clients follow channels on two nodes while a publisher keeps its rate before, during and after the outage. Redis writes
 * an append-only file. The process is killed, not the machine: what `everysec` may lose with a machine is not measured.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { RawClient } from "../../test/support/raw-client.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { Sequence } from "../checks/sequence.ts";
import { processUsage, UsageRecorder } from "../checks/usage.ts";
import { inBatches } from "../clients/batches.ts";
import { connectReader } from "../clients/reader.ts";
import type { Fleet, OwnDeployment, ServerProcess } from "../rig/fleet.ts";
import { countsText, OutagePublisher } from "../rig/outage-publisher.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const clients = parameter("CLIENTS", 500, 1, 5_000);
const channels = parameter("CHANNELS", 20, 1, 200);
/** Publish calls per second, refused ones included. */
const rate = parameter("RATE", 200, 1, 1_000);
const outageSeconds = parameter("OUTAGE", 30, 1, 120);
const payloadBytes = parameter("PAYLOAD_BYTES", 256, 0, 10_000);

const beforeSeconds = 15;
const afterSeconds = 10;
/** A client that has not caught up by then fails the run. */
const catchUpMs = 60_000;
/** Without a limit the heap grows by garbage that was never collected, and memory says nothing about what piles up. */
const heapMiB = 128;
/** A bounded heap and its surroundings grow by less when nothing piles up. */
const memoryBoundBytes = 96 * 1024 * 1024;

const now = (): number => performance.now();
const channelNames = Array.from({ length: channels }, (_, index) => `load:${index}`);

interface Follower {
  readonly client: RawClient;
  readonly channel: string;
  readonly sequence: Sequence;
  /** Offsets that it received. */
  readonly offsets: Set<number>;
  /** When it had the first publication that was acknowledged after the outage; by `performance.now()`. */
  caughtUpAt: number | undefined;
}

/** Moments of the outage. */
interface Outage {
  /** Unix ms. */
  readonly killedAt: number;
  readonly until: number;
  /** By `performance.now()`. */
  readonly backAt: number;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  say("starting redis, private-api and two gateways");
  const deployment = await fleet.start({ appendOnly: true, heapMiB });
  await putRules(deployment, { namespaces: { load: { historySize: 5_000 } } });
  const publisher = new OutagePublisher(deployment, { channels: channelNames, perSecond: rate, payloadBytes });
  const crowd = await Followers.connect(deployment, publisher);
  const memory = new ProgramMemory(deployment.processes);
  memory.start();

  say(`publishing ${rate}/s to ${clients} clients`);
  publisher.start();
  await pause(beforeSeconds * 1_000);
  const outage = await interrupt(fleet, publisher);
  while (crowd.caughtUp < clients && now() - outage.backAt < catchUpMs) await pause(20);
  await pause(afterSeconds * 1_000);
  await publisher.stop();
  await pause(2_000);
  memory.stop();
  crowd.close();

  const growth = memory.growth(outage);
  const caughtUpAfter = crowd.caughtUpAfter(outage.backAt);
  const { counts, firstOkAt, acked } = publisher;
  const ackedCount = [...acked.values()].reduce((sum, offsets) => sum + offsets.size, 0);
  return {
    scenario: "redis-outage",
    parameters: { clients, channels, ratePerSecond: rate, outageSeconds, payloadBytes },
    figures: {
      "publishes before": countsText(counts.before),
      "publishes during": countsText(counts.during),
      "publishes after": countsText(counts.after),
      "slowest refusal": `${Math.max(0, ...publisher.refusalMs).toFixed(0)} ms, p50 ${percentile(publisher.refusalMs, 0.5).toFixed(1)} ms`,
      "skipped, too many calls under way": publisher.skipped,
      "acknowledged in all": ackedCount,
      "from redis' return to the first publish": `${((firstOkAt ?? Number.NaN) - outage.backAt).toFixed(0)} ms`,
      "… to all clients caught up": `${Math.max(...caughtUpAfter).toFixed(0)} ms (${caughtUpAfter.length} of ${clients})`,
      "most memory gained during the outage": growth.map(({ role, bytes }) => `${role} ${mib(bytes)} MiB`).join(", "),
    },
    verdicts: [
      ...crowd.verdicts(acked),
      { title: "every client caught up", pass: caughtUpAfter.length === clients, value: caughtUpAfter.length },
      {
        title: "during the outage every publish got 503 and Retry-After, or a known outcome",
        pass: counts.during.refused > 0 && counts.during.other === 0,
        value: countsText(counts.during),
      },
      {
        title: `during the outage no program's memory grew by more than ${mib(memoryBoundBytes)} MiB`,
        pass: growth.every(({ bytes }) => bytes <= memoryBoundBytes),
        value: growth.map(({ bytes }) => mib(bytes)).join(", "),
      },
    ],
  };
}

async function interrupt(fleet: Fleet, publisher: OutagePublisher): Promise<Outage> {
  const killedAt = Date.now();
  publisher.phase = "during";
  await fleet.killRedis();
  say(`redis is killed, restarts in ${outageSeconds} s`);
  await pause(outageSeconds * 1_000);
  await fleet.restartRedis();
  const outage = { killedAt, until: Date.now(), backAt: now() };
  publisher.phase = "after";
  say("redis is back");
  return outage;
}

/** The clients that follow the channels. */
class Followers {
  #followers: readonly Follower[] = [];
  #resyncs = 0;
  #closed = 0;
  #closing = false;

  static async connect(deployment: OwnDeployment, publisher: OutagePublisher): Promise<Followers> {
    const followers = new Followers();
    const indexes = [...Array(clients).keys()];
    followers.#followers = await inBatches(indexes, async (index) => followers.#follow(deployment, publisher, index));
    return followers;
  }

  get caughtUp(): number {
    return this.#followers.filter(({ caughtUpAt }) => caughtUpAt !== undefined).length;
  }

  /** @returns ms, of each client that caught up. */
  caughtUpAfter(backAt: number): number[] {
    return this.#followers.flatMap(({ caughtUpAt }) => (caughtUpAt === undefined ? [] : [caughtUpAt - backAt]));
  }

  close(): void {
    this.#closing = true;
    for (const { client } of this.#followers) client.socket.destroy();
  }

  /** @param acked offsets that the private API acknowledged, by channel. */
  verdicts(acked: ReadonlyMap<string, ReadonlySet<number>>): Verdict[] {
    const lost = this.#followers.reduce((sum, { channel, offsets }) => {
      return sum + [...(acked.get(channel) ?? [])].filter((offset) => !offsets.has(offset)).length;
    }, 0);
    const faults = this.#followers.reduce((sum, { sequence }) => sum + sequence.faults, 0);
    return [
      {
        title: "no acknowledged publication is missing at any client",
        pass: lost === 0 && acked.size > 0,
        value: lost,
      },
      { title: "every publication followed the one before", pass: faults === 0, value: faults },
      { title: "no client had to resync", pass: this.#resyncs === 0, value: this.#resyncs },
      { title: "no client was closed", pass: this.#closed === 0, value: this.#closed },
    ];
  }

  async #follow(deployment: OwnDeployment, publisher: OutagePublisher, index: number): Promise<Follower> {
    const client = await connectReader(deployment, index % 2);
    const channel = channelNames[Math.floor(index / 2) % channels] ?? "";
    const { position } = await client.subscribe(channel);
    const sequence = new Sequence(position.offset);
    const follower: Follower = { client, channel, sequence, offsets: new Set(), caughtUpAt: undefined };
    client.onEvent = (event, _data, { offset, prev }) => {
      if (event === "sync:resync") this.#resyncs++;
      if (event !== "tick" || offset === undefined) return;
      sequence.take(offset, prev);
      follower.offsets.add(offset);
      const first = publisher.firstAfterOutage.get(channel);
      if (first !== undefined && offset >= first) follower.caughtUpAt ??= now();
    };
    void client.closed.then(() => {
      if (!this.#closing) this.#closed++;
    });
    return follower;
  }
}

/** Resident memory of the Node programs. */
class ProgramMemory {
  readonly #recorders: readonly { readonly role: string; readonly recorder: UsageRecorder }[];

  constructor(processes: readonly ServerProcess[]) {
    this.#recorders = processes
      .filter(({ role }) => role !== "redis")
      .map(({ role, pid }) => ({ role, recorder: new UsageRecorder(() => processUsage(pid)) }));
  }

  start(): void {
    for (const { recorder } of this.#recorders) recorder.start();
  }

  stop(): void {
    for (const { recorder } of this.#recorders) recorder.stop();
  }

  growth({ killedAt, until }: Outage): { role: string; bytes: number }[] {
    return this.#recorders.map(({ role, recorder }) => {
      return { role, bytes: recorder.peakBytes(killedAt, until) - (recorder.at(killedAt)?.rssBytes ?? 0) };
    });
  }
}

function mib(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(1);
}

await runScenario(run);
