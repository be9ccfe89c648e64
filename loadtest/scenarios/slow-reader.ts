/**
 * The cost of one client that stops reading, to its node and to the other clients.
 *
 *   npm run loadtest -- slow-reader [--json]
 *   READERS (1000) CHANNELS (100) RATE (1000/s) BEFORE (20 s) SLOW (60 s) PAYLOAD_BYTES (512)
 *
 * Readers follow many channels on two nodes. One more, on the first node, follows all channels, stops reading for a minute,
 * reads again, and reconnects where it was closed. Both nodes carry the same load at the same time, so the difference
 * between them in that minute is the cost of the slow reader.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { RawClient } from "../../test/support/raw-client.ts";
import { OutboxSampler } from "../checks/outbox-sampler.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { Sequence } from "../checks/sequence.ts";
import { processUsage, UsageRecorder } from "../checks/usage.ts";
import { inBatches } from "../clients/batches.ts";
import { connectReader } from "../clients/reader.ts";
import { SlowReader } from "../clients/slow-reader.ts";
import { BatchPublisher, type BatchTick, type Published } from "../rig/batch-publisher.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const readers = parameter("READERS", 1_000, 2, 5_000);
/** The slow reader follows all of them. */
const channels = parameter("CHANNELS", 100, 1, 200);
/** Publications per second to all channels together. */
const rate = parameter("RATE", 1_000, 1, 5_000);
const beforeSeconds = parameter("BEFORE", 20, 5, 300);
const slowSeconds = parameter("SLOW", 60, 5, 300);
const payloadBytes = parameter("PAYLOAD_BYTES", 512, 0, 4_000);

const settleSeconds = 5;
/** Time for the slow reader to catch up and for publications under way to arrive. */
const afterSeconds = 15;
const capBytes = 1024 * 1024;
/** How far a quiet node's memory moves by itself: collections, growth of the heap. */
const heapNoiseBytes = 16 * 1024 * 1024;
/** The noise of the p99 on a shared machine, as seen between two nodes without a slow reader. */
const p99Ratio = 1.5;
const p99NoiseMs = 5;
const channelNames = Array.from({ length: channels }, (_, index) => `load:${index}`);

type Phase = "settling" | "before" | "slow" | "after";
/** 0: the slow reader's node; 1: the other one. */
type Node = 0 | 1;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  say("starting redis, private-api and two gateways");
  const deployment = await fleet.start();
  // Enough history to bridge a minute.
  await putRules(deployment, { namespaces: { load: { historySize: 5_000 } } });
  say(`connecting ${readers} readers`);
  const others = await Readers.connect(deployment);
  const slow = new SlowReader({
    channels: channelNames,
    connect: async () => connectReader(deployment, 0),
    onError: (error) => say(String(error)),
  });
  await slow.start();

  const gateways = deployment.processes.filter(({ role }) => role === "gateway");
  const recorders = gateways.map(({ pid }) => new UsageRecorder(() => processUsage(pid)));
  for (const recorder of recorders) recorder.start();
  const outboxes = new OutboxSampler(deployment.adminUrls, (error) => say(String(error)));
  outboxes.start();
  const publisher = new BatchPublisher(deployment, { channels: channelNames, perSecond: rate, payloadBytes });
  publisher.start();

  const { slowFrom, slowUntil, closedBy, recovery } = await runPhases({ others, slow, outboxes });
  const published = await publisher.stop();
  await pause(2_000);

  outboxes.stop();
  for (const recorder of recorders) recorder.stop();
  const grownBytes = recorders.map(
    (recorder) => recorder.peakBytes(slowFrom, slowUntil) - (recorder.at(slowFrom)?.rssBytes ?? 0),
  );
  const notRecovered = slow.incomplete(published.lastOffsets);
  slow.close();
  others.close();
  const { largestBytes } = outboxes;
  return {
    scenario: "slow-reader",
    parameters: { readers, channels, ratePerSecond: rate, beforeSeconds, slowSeconds, payloadBytes },
    figures: {
      "publications per second": Math.round(published.count / published.seconds),
      "deliveries per second, without the slow reader": Math.round(others.deliveries("slow") / slowSeconds),
      "due to the slow reader per second": Math.round(published.count / published.seconds),
      ...others.latencyFigures(),
      "most bytes queued for one connection": `${(largestBytes / 1024).toFixed(0)} KiB`,
      "RSS growth meanwhile, its node / the other": `${grownBytes.map(mib).join(" / ")} MiB`,
      "the slow reader was closed": closedBy,
      "its recovery": recovery,
    },
    verdicts: verdictsOn({ others, published, largestBytes, grownBytes, notRecovered }),
  };
}

/** Moments in Unix ms, and what became of the slow reader. */
interface SlowPhase {
  readonly slowFrom: number;
  readonly slowUntil: number;
  readonly closedBy: string;
  readonly recovery: string;
}

/** All read; then one stops reading, and reads again. */
async function runPhases(at: { others: Readers; slow: SlowReader; outboxes: OutboxSampler }): Promise<SlowPhase> {
  const { others, slow, outboxes } = at;
  await pause(settleSeconds * 1_000);
  others.phase = "before";
  say(`${beforeSeconds} s with all clients reading`);
  await pause(beforeSeconds * 1_000);
  others.phase = "slow";
  const slowFrom = Date.now();
  slow.stopReading();
  say(`${slowSeconds} s with one reader at 0 B/s`);
  await pause(slowSeconds * 1_000);
  const slowUntil = Date.now();
  const closedBy = await outboxes.closeCause(slowFrom);
  others.phase = "after";
  say("it reads again");
  const recovery = await slow.readAgain();
  await pause(afterSeconds * 1_000);
  return { slowFrom, slowUntil, closedBy, recovery };
}

function verdictsOn(seen: {
  others: Readers;
  published: Published;
  largestBytes: number;
  grownBytes: readonly number[];
  notRecovered: number;
}): Verdict[] {
  const { others, published, largestBytes, notRecovered } = seen;
  const [grown = 0, grownBeside = 0] = seen.grownBytes;
  const [p99, p99Beside] = [others.percentileMs("slow", 0, 0.99), others.percentileMs("slow", 1, 0.99)];
  const incomplete = others.incomplete(published.lastOffsets);
  return [
    { title: "no outbox exceeds its bound", pass: largestBytes <= capBytes, value: largestBytes },
    {
      title: "its node's memory grows by no more than the other node's, the bound and the heap's own noise",
      pass: grown - grownBeside <= capBytes + heapNoiseBytes,
      value: `${mib(grown - grownBeside)} MiB more`,
    },
    {
      title: `p99 of the other readers on its node: within ${p99Ratio} times, or ${p99NoiseMs} ms, of the other node's`,
      pass: p99 <= Math.max(p99Beside * p99Ratio, p99Beside + p99NoiseMs),
      value: ratio(p99, p99Beside),
    },
    { title: "every other reader gets everything, in order", pass: incomplete === 0, value: incomplete },
    {
      title: "no other reader is closed or has to resync",
      pass: others.interrupted === 0,
      value: others.interrupted,
    },
    {
      title: "the slow reader recovers every channel, or gets a reason why not",
      pass: notRecovered === 0,
      value: notRecovered,
    },
    {
      title: "the publisher kept its rate",
      pass: published.count / published.seconds >= rate * 0.95 && published.failed === 0,
      value: `${published.failed} failed`,
    },
  ];
}

/** The readers that read all the time. */
class Readers {
  readonly #clients: RawClient[] = [];
  readonly #followed: { readonly channel: string; readonly sequence: Sequence }[] = [];
  readonly #latencies: Record<Phase, Record<Node, number[]>> = {
    settling: { 0: [], 1: [] },
    before: { 0: [], 1: [] },
    slow: { 0: [], 1: [] },
    after: { 0: [], 1: [] },
  };
  phase: Phase = "settling";
  /** Connections closed, and events that are no publication. */
  interrupted = 0;

  static async connect(deployment: OwnDeployment): Promise<Readers> {
    const all = new Readers();
    await inBatches([...Array(readers).keys()], async (index) => all.#add(deployment, index));
    return all;
  }

  close(): void {
    for (const { socket } of this.#clients) socket.destroy();
  }

  deliveries(phase: Phase): number {
    return this.#latencies[phase][0].length + this.#latencies[phase][1].length;
  }

  percentileMs(phase: Phase, node: Node, share: number): number {
    return percentile(this.#latencies[phase][node], share);
  }

  latencyFigures(): Record<string, string> {
    const figures: Record<string, string> = {};
    for (const [phase, when] of [
      ["before", "before"],
      ["slow", "while it does not read"],
    ] as const) {
      for (const share of [0.5, 0.99]) {
        const [its, other] = [this.percentileMs(phase, 0, share), this.percentileMs(phase, 1, share)];
        const title = `p${share * 100} ${when}, its node / the other (ratio)`;
        figures[title] = `${its.toFixed(1)} / ${other.toFixed(1)} ms (${ratio(its, other)})`;
      }
    }
    return figures;
  }

  /** Readers that lack a publication or got one twice. */
  incomplete(lastOffsets: ReadonlyMap<string, number>): number {
    return this.#followed.filter(({ channel, sequence }) => {
      return sequence.faults > 0 || sequence.reached !== lastOffsets.get(channel);
    }).length;
  }

  async #add(deployment: OwnDeployment, index: number): Promise<void> {
    const node: Node = index % 2 === 0 ? 0 : 1;
    const client = await connectReader(deployment, node);
    const channel = channelNames[Math.floor(index / 2) % channels] ?? "";
    // Publishing has not begun: nothing can come before the handler is set.
    const { position } = await client.subscribe(channel);
    const sequence = new Sequence(position.offset);
    client.onEvent = (event, data, { offset, prev }) => {
      if (event !== "tick" || offset === undefined) return void this.interrupted++;
      sequence.take(offset, prev);
      this.#latencies[this.phase][node].push(performance.now() - (data as BatchTick).sentAt);
    };
    void client.closed.then(() => this.interrupted++);
    this.#followed.push({ channel, sequence });
    this.#clients.push(client);
  }
}

function ratio(value: number, other: number): string {
  return (value / other).toFixed(2);
}

function mib(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(1);
}

await runScenario(run);
