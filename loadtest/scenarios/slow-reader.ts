/**
 * What one client that stops reading costs its node and the others.
 *
 *   npm run loadtest -- slow-reader [--json]
 *
 * Readers spread over two nodes and many channels; one more, on the first node, follows all channels and stops reading
 * for a minute, then reads again, and returns where it was closed. Both nodes carry the same load at the same time: what
 * differs between them in that minute is the slow reader's doing.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { RawClient } from "../../test/support/raw-client.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { Chain } from "../checks/chain.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { connectReader } from "../clients/reader.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { processUsage, UsageRecorder } from "../checks/usage.ts";

const readers = parameter("READERS", 1_000, 2, 5_000);
/** The slow one follows all. */
const channels = parameter("CHANNELS", 100, 1, 200);
/** Publications per second, all channels together. */
const rate = parameter("RATE", 1_000, 1, 5_000);
const beforeSeconds = parameter("BEFORE", 20, 5, 300);
const slowSeconds = parameter("SLOW", 60, 5, 300);
const payloadBytes = parameter("PAYLOAD_BYTES", 512, 0, 4_000);

const settleSeconds = 5;
/** For the slow one to catch up, and what is on its way to arrive. */
const afterSeconds = 15;
/** For all channels of the slow one to be answered. */
const comeBackMs = 60_000;
/** What falls due in that time leaves in one call. */
const publishEveryMs = 20;
const maxCallsUnderWay = 8;
const connectAtOnce = 50;
const capBytes = 1024 * 1024;
/** What the memory of a quiet node moves by itself: collections, and the heap's growth. */
const heapNoiseBytes = 16 * 1024 * 1024;
/** The tail's own noise on a shared machine, as seen between two nodes without any slow reader. */
const p99Ratio = 1.5;
const p99NoiseMs = 5;

type Phase = "settling" | "before" | "slow" | "after";
let phase: Phase = "settling";
const now = (): number => performance.now();
const channelName = (index: number): string => `load:${index % channels}`;

interface Reader {
  readonly channel: string;
  readonly chain: Chain;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  say("starting redis, private-api and two gateways");
  const deployment = await fleet.start();
  // Enough that a minute away can be bridged.
  await putRules(deployment, { namespaces: { load: { historySize: 5_000 } } });
  const latencies = { settling: [[], []], before: [[], []], slow: [[], []], after: [[], []] } as Record<
    Phase,
    [number[], number[]]
  >;
  say(`connecting ${readers} readers`);
  const all: Reader[] = [];
  const clients: RawClient[] = [];
  let interrupted = 0;
  for (let at = 0; at < readers; at += connectAtOnce) {
    const batch = Array.from({ length: Math.min(connectAtOnce, readers - at) }, async (_, i) => {
      const node = (at + i) % 2;
      const client = await connectReader(deployment, node);
      // Nothing is published yet, so nothing comes before the chain is there.
      const channel = channelName(Math.floor((at + i) / 2));
      const { position } = await client.subscribe(channel);
      const reader = { channel, chain: new Chain(position) };
      client.onEvent = (event, data, { offset, prev }) => {
        if (event !== "tick" || offset === undefined) return void interrupted++;
        reader.chain.take({ offset, prev });
        latencies[phase][node as 0 | 1].push(now() - (data as { sentAt: number }).sentAt);
      };
      void client.closed.then(() => interrupted++);
      all.push(reader);
      clients.push(client);
    });
    await Promise.all(batch);
  }
  const slow = new SlowReader(deployment);
  await slow.start();

  const gatewayPids = deployment.processes.filter(({ role }) => role === "gateway").map(({ pid }) => pid);
  const recorders = gatewayPids.map((pid) => new UsageRecorder(() => processUsage(pid)));
  for (const recorder of recorders) recorder.start();
  const outboxes = new OutboxSampler(deployment.adminUrls);
  outboxes.start();
  const publisher = new Publisher(deployment);
  publisher.start();

  await pause(settleSeconds * 1_000);
  phase = "before";
  say(`${beforeSeconds} s with everybody reading`);
  await pause(beforeSeconds * 1_000);
  phase = "slow";
  const slowFrom = Date.now();
  slow.stopReading();
  say(`${slowSeconds} s with one reader at 0 B/s`);
  await pause(slowSeconds * 1_000);
  const slowUntil = Date.now();
  const closedBy = await outboxes.ending(slowFrom);
  phase = "after";
  say("it reads again");
  const recovery = await slow.readAgain();
  await pause(afterSeconds * 1_000);
  const published = await publisher.stop();
  await pause(2_000);

  outboxes.stop();
  for (const recorder of recorders) recorder.stop();
  const growth = recorders.map(
    (recorder) => recorder.peakBytes(slowFrom, slowUntil) - (recorder.at(slowFrom)?.rssBytes ?? 0),
  );
  const [grown = 0, grownBeside = 0] = growth;
  const p99 = (of: Phase, node: 0 | 1): number => percentile(latencies[of][node], 0.99);
  const p50 = (of: Phase, node: 0 | 1): number => percentile(latencies[of][node], 0.5);
  const incomplete = all.filter(
    ({ channel, chain }) => chain.breaks > 0 || chain.last !== published.lastOffsets.get(channel),
  ).length;
  const behind = slow.incomplete(published.lastOffsets);
  const deliveries = latencies.slow[0].length + latencies.slow[1].length;

  slow.end();
  for (const { socket } of clients) socket.destroy();
  const two = (node0: number, node1: number): string => `${node0.toFixed(1)} / ${node1.toFixed(1)} ms`;
  return {
    scenario: "slow-reader",
    parameters: { readers, channels, ratePerSecond: rate, beforeSeconds, slowSeconds, payloadBytes },
    figures: {
      "publications per second": Math.round(published.count / published.seconds),
      "deliveries per second, slow one left out": Math.round(deliveries / slowSeconds),
      "due to the slow one per second": Math.round(published.count / published.seconds),
      "p50 before, its node / the other": two(p50("before", 0), p50("before", 1)),
      "p99 before, its node / the other": two(p99("before", 0), p99("before", 1)),
      "p50 while it does not read, its node / the other": two(p50("slow", 0), p50("slow", 1)),
      "p99 while it does not read, its node / the other": two(p99("slow", 0), p99("slow", 1)),
      "p99 ratio before, while": `${ratio(p99("before", 0), p99("before", 1))}, ${ratio(p99("slow", 0), p99("slow", 1))}`,
      "most that waited for one connection": `${(outboxes.largest / 1024).toFixed(0)} KiB`,
      "RSS growth in that time, its node / the other": `${mib(grown)} / ${mib(grownBeside)} MiB`,
      "the slow one was closed": closedBy,
      "it came back": recovery,
    },
    verdicts: [
      { title: "no outbox was over its bound", pass: outboxes.largest <= capBytes, value: outboxes.largest },
      {
        title: "its node's memory grew by no more than the other node's, the bound and the heap's own noise",
        pass: grown - grownBeside <= capBytes + heapNoiseBytes,
        value: `${mib(grown - grownBeside)} MiB more`,
      },
      {
        title: `p99 of the others on its node: within ${p99Ratio} times, or ${p99NoiseMs} ms, of the other node's`,
        pass: p99("slow", 0) <= Math.max(p99("slow", 1) * p99Ratio, p99("slow", 1) + p99NoiseMs),
        value: ratio(p99("slow", 0), p99("slow", 1)),
      },
      { title: "every other reader got everything, in order", pass: incomplete === 0, value: incomplete },
      { title: "no other reader was closed or told to resync", pass: interrupted === 0, value: interrupted },
      {
        title: "the slow one has every channel complete, or was told that it cannot",
        pass: behind === 0,
        value: behind,
      },
      {
        title: "the publisher kept its rate",
        pass: published.count / published.seconds >= rate * 0.95 && published.failed === 0,
        value: `${published.failed} failed`,
      },
    ],
  };
}

/** Follows every channel, and does not read while told so. */
class SlowReader {
  readonly #deployment: OwnDeployment;
  readonly #chains = new Map<string, Chain>();
  #client: RawClient | undefined;
  #stoppedAt = 0;
  /** Channels whose recovery was refused, with a reason. */
  #told = 0;

  constructor(deployment: OwnDeployment) {
    this.#deployment = deployment;
  }

  async start(): Promise<void> {
    const client = await this.#connect();
    for (let index = 0; index < channels; index++) {
      const { position } = await client.subscribe(channelName(index));
      this.#chains.set(channelName(index), new Chain(position));
    }
  }

  stopReading(): void {
    this.#stoppedAt = now();
    this.#client?.socket.pause();
  }

  /** Returns where it was closed, with its positions. @returns what came of it. */
  async readAgain(): Promise<string> {
    const from = now();
    const client = this.#client;
    client?.socket.resume();
    const noticed = await Promise.race([client?.closed.then(() => true), pause(20_000, false)]);
    if (!noticed) return `its connection was still there after ${((from - this.#stoppedAt) / 1_000).toFixed(0)} s`;
    const returned = await this.#connectAgain();
    if (!returned) return "it was not let in again in time";
    let replayed = 0;
    let recovered = 0;
    const answered = [...this.#chains].map(async ([channel, chain]) =>
      returned.subscribe(channel, { epoch: chain.epoch, offset: chain.last }, (ack) => {
        for (const publication of ack.publications) chain.take(publication);
        replayed += ack.publications.length;
        if (ack.recovered) recovered++;
        else {
          this.#told++;
          chain.last = ack.position.offset;
        }
      }),
    );
    const all = await Promise.race([Promise.all(answered), returned.closed, pause(comeBackMs)]);
    if (!all) return `it was closed again, or not answered in time, after ${recovered} channels`;
    const seconds = ((now() - from) / 1_000).toFixed(1);
    return `${recovered} channels recovered, ${this.#told} told why not, ${replayed} publications from history, ${seconds} s after it read again`;
  }

  /** Channels that lack anything it was not told of. */
  incomplete(lastOffsets: ReadonlyMap<string, number>): number {
    return [...this.#chains].filter(([channel, chain]) => chain.breaks > 0 || chain.last !== lastOffsets.get(channel))
      .length;
  }

  end(): void {
    this.#client?.socket.destroy();
  }

  async #connectAgain(): Promise<RawClient | undefined> {
    for (const until = now() + comeBackMs; now() < until; await pause(1_000)) {
      const client = await this.#connect().catch((error: unknown) => say(String(error)));
      if (client) return client;
    }
    return undefined;
  }

  async #connect(): Promise<RawClient> {
    const client = await connectReader(this.#deployment, 0);
    client.onEvent = (event, _data, { channel = "", offset, prev }) => {
      if (event === "tick" && offset !== undefined) this.#chains.get(channel)?.take({ offset, prev });
    };
    this.#client = client;
    return client;
  }
}

/** Reads both nodes' metrics, so that the reading itself weighs on both. */
class OutboxSampler {
  readonly #adminUrls: readonly string[];
  largest = 0;
  #timer: NodeJS.Timeout | undefined;
  #closedAt: number | undefined;

  constructor(adminUrls: readonly string[]) {
    this.#adminUrls = adminUrls;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#sample().catch((error: unknown) => say(String(error))), 1_000);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** How the node of the slow one ended it. */
  async ending(slowFrom: number): Promise<string> {
    const text = await this.#metrics(this.#adminUrls[0] ?? "");
    const ended = ["bytes", "stalled"].filter((cause) => valueOf(text, `slow_consumers_total{cause="${cause}"}`) > 0);
    if (valueOf(text, 'disconnects_total{reason="ping_timeout"}') > 0) ended.push("ping_timeout");
    const after = this.#closedAt === undefined ? "" : `, after ${((this.#closedAt - slowFrom) / 1_000).toFixed(0)} s`;
    return ended.length === 0 ? "no" : `${ended.join(", ")}${after}`;
  }

  async #sample(): Promise<void> {
    const [first = ""] = await Promise.all(
      this.#adminUrls.map(async (url) => {
        const text = await this.#metrics(url);
        this.largest = Math.max(this.largest, valueOf(text, "outbox_largest_bytes"));
        return text;
      }),
    );
    if (this.#closedAt === undefined && /disconnects_total\{reason="(slow_consumer|ping_timeout)"\}/.test(first)) {
      this.#closedAt = Date.now();
    }
  }

  async #metrics(url: string): Promise<string> {
    return (await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) })).text();
  }
}

function valueOf(metrics: string, name: string): number {
  const line = metrics.split("\n").find((candidate) => candidate.startsWith(`tidegate_${name} `));
  return Number(line?.split(" ").at(-1) ?? 0);
}

/** Publishes at the rate, to each channel in turn, in batches that leave together. */
class Publisher {
  readonly #deployment: OwnDeployment;
  readonly #lastOffsets = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #sent = 0;
  #failed = 0;
  /** Due, and not sent: the machine was too slow for the rate. */
  #leftOut = 0;
  #underWay = new Set<Promise<void>>();

  constructor(deployment: OwnDeployment) {
    this.#deployment = deployment;
  }

  start(): void {
    this.#startedAt = now();
    this.#timer = setInterval(() => this.#publishDue(), publishEveryMs);
  }

  async stop(): Promise<{
    count: number;
    failed: number;
    seconds: number;
    lastOffsets: ReadonlyMap<string, number>;
  }> {
    clearInterval(this.#timer);
    const seconds = (now() - this.#startedAt) / 1_000;
    await Promise.all(this.#underWay);
    return { count: this.#sent - this.#failed, failed: this.#failed, seconds, lastOffsets: this.#lastOffsets };
  }

  #publishDue(): void {
    const due = Math.floor(((now() - this.#startedAt) / 1_000) * rate) - this.#sent - this.#leftOut;
    const late = Math.max(0, due - Math.ceil(rate / 4));
    this.#leftOut += late;
    if (this.#underWay.size >= maxCallsUnderWay) return;
    const filler = "x".repeat(payloadBytes);
    const items = Array.from({ length: Math.min(due - late, 1_000) }, () => {
      const channel = channelName(this.#sent++);
      return { channel, event: "tick", data: { sentAt: now(), filler } };
    });
    if (items.length === 0) return;
    const call = this.#publish(items)
      .catch((error: unknown) => {
        this.#failed += items.length;
        say(String(error));
      })
      .finally(() => this.#underWay.delete(call));
    this.#underWay.add(call);
  }

  async #publish(items: readonly { channel: string }[]): Promise<void> {
    const { privateApi, privateApiToken } = this.#deployment;
    const answer = await fetch(`${privateApi}/v1/publish/batch`, {
      method: "POST",
      headers: { authorization: `Bearer ${privateApiToken}`, "content-type": "application/json" },
      body: JSON.stringify(items),
      signal: AbortSignal.timeout(10_000),
    });
    if (!answer.ok) throw new Error(`publish: ${answer.status} ${await answer.text()}`);
    for (const [i, outcome] of ((await answer.json()) as { offset?: number }[]).entries()) {
      const channel = items[i]?.channel ?? "";
      if (outcome.offset === undefined) this.#failed++;
      else this.#lastOffsets.set(channel, Math.max(outcome.offset, this.#lastOffsets.get(channel) ?? 0));
    }
  }
}

function ratio(value: number, other: number): string {
  return (value / other).toFixed(2);
}

function mib(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(1);
}

await runScenario(run);
