/**
 * The load that REDIS_READ_URL takes off the primary in a mass return: the same reads without and with it.
 *
 *   npm run loadtest -- read-replica [--json]
 *   NODES (4) CHANNELS (300) RETURNS (20 for each node and channel) PUBLICATIONS (10 for each channel meanwhile)
 *
 * Each node follows every channel, then reads half of each channel's history many times while publishing continues. Both
 * rounds have a primary with one replica. Verdicts: every read is complete, no publication is missed.
 */
import type { Position } from "../../shared/channels/contract.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../../test/support/eventually.ts";
import { asked } from "../../test/support/redis-failover.ts";
import { type RedisServer, startRedis } from "../../test/support/redis.ts";
import { parameter } from "../rig/scenario.ts";

const flags = readArguments({ "--json": toggle() });
const nodeCount = parameter("NODES", 4, 1, 100);
const channelCount = parameter("CHANNELS", 300, 1, 10_000);
const returns = parameter("RETURNS", 20, 1, 1_000);
const publicationsMeanwhile = parameter("PUBLICATIONS", 10, 0, 1_000);
const historySize = 100;
/** Reads under way per node; a gateway bounds them, too. */
const readsAtOnce = 64;
const withinMs = 60_000;
const retention = { historySize: 1_000, historySeconds: 300 };
const data = JSON.stringify({
  text: "about a hundred bytes of what an application publishes to a channel, with a card 17",
});
const logger = createLogger({ name: "load", level: "error" });

interface ServerUse {
  /** Executed by Redis, those inside scripts included. */
  commands: number;
  cpuMs: number;
}

interface Round {
  readUrl: boolean;
  primary: ServerUse;
  replica: ServerUse;
  elapsedMs: number;
  reads: number;
  incompleteReads: number;
  deliveries: number;
  missedDeliveries: number;
}

interface Node {
  connections: RedisConnections;
  broker: RedisBroker;
  delivered: number;
}

async function useOf(server: RedisServer): Promise<ServerUse> {
  const info = await asked(server, async (client) => `${await client.info("stats")}\n${await client.info("cpu")}`);
  const field = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(info)?.[1]);
  return {
    commands: field("total_commands_processed"),
    cpuMs: (field("used_cpu_user") + field("used_cpu_sys")) * 1_000,
  };
}

function difference(after: ServerUse, before: ServerUse): ServerUse {
  return { commands: after.commands - before.commands, cpuMs: Math.round(after.cpuMs - before.cpuMs) };
}

async function openNode(primary: RedisServer, replica: RedisServer | undefined): Promise<Node> {
  const target = { kind: "standalone", url: primary.url, ...(replica && { readUrl: replica.url }) } as const;
  const connections = new RedisConnections({ target, errors: new ContainedErrors(logger), logger });
  const broker = new RedisBroker({ cells: new Cells(connections), logger });
  const node: Node = { connections, broker, delivered: 0 };
  broker.listen({
    onPublication: () => void node.delivered++,
    onEphemeral: () => undefined,
    onUserMessage: () => undefined,
    onRestored: () => undefined,
  });
  await connections.start();
  await broker.start();
  return node;
}

async function measure(primary: RedisServer, replica: RedisServer, readUrl: boolean): Promise<Round> {
  const channels = Array.from({ length: channelCount }, (_, n) => `board:${readUrl ? "with" : "without"}-${n}`);
  const nodes = await Promise.all(
    Array.from({ length: nodeCount }, () => openNode(primary, readUrl ? replica : undefined)),
  );
  const [publisher] = nodes;
  if (!publisher) throw new Error("NODES must be at least 1");
  const publish = async (channel: string): Promise<Position> =>
    (await publisher.broker.publish({ channel, event: "moved", data, retention })).position;
  try {
    const positions = new Map<string, Position>();
    for (let n = 0; n < historySize; n++) {
      await Promise.all(channels.map(async (channel) => positions.set(channel, await publish(channel))));
    }
    await Promise.all(nodes.flatMap(({ broker }) => channels.map((name) => broker.follow({ kind: "channel", name }))));
    if (readUrl) await eventually(() => nodes.every(({ connections }) => connections.replica?.usable), withinMs);
    await eventually(async () => (await asked(primary, (client) => client.wait(1, 1_000))) === 1, withinMs);

    const before = [await useOf(primary), await useOf(replica)] as const;
    const startedAt = performance.now();
    let incompleteReads = 0;
    const readAll = async ({ broker }: Node): Promise<void> => {
      incompleteReads += await readHistories(broker, channels, positions);
    };
    const publishAll = async (): Promise<void> => {
      for (let n = 0; n < publicationsMeanwhile; n++) await Promise.all(channels.map(publish));
    };
    await Promise.all([...nodes.map(readAll), publishAll()]);
    const expected = channelCount * publicationsMeanwhile;
    // Publications that do not arrive are counted below.
    await eventually(() => nodes.every(({ delivered }) => delivered >= expected), withinMs).catch(() => undefined);
    const elapsedMs = Math.round(performance.now() - startedAt);
    const after = [await useOf(primary), await useOf(replica)] as const;
    const deliveries = nodes.reduce((sum, { delivered }) => sum + delivered, 0);
    return {
      readUrl,
      primary: difference(after[0], before[0]),
      replica: difference(after[1], before[1]),
      elapsedMs,
      reads: nodeCount * channelCount * returns,
      incompleteReads,
      deliveries,
      missedDeliveries: nodeCount * expected - deliveries,
    };
  } finally {
    await Promise.all(nodes.map(({ connections }) => connections.stop()));
  }
}

/** Reads the second half of each channel's history, several times. @returns the number of incomplete reads. */
async function readHistories(
  broker: RedisBroker,
  channels: readonly string[],
  positions: ReadonlyMap<string, Position>,
): Promise<number> {
  let incomplete = 0;
  const left = channels.flatMap((channel) => Array.from({ length: returns }, () => channel));
  const reader = async (): Promise<void> => {
    for (let channel = left.pop(); channel !== undefined; channel = left.pop()) {
      const reaching = positions.get(channel) ?? { epoch: "", offset: 0 };
      const slice = await broker.readHistory({
        ...{ channel, retention, epoch: reaching.epoch, after: historySize / 2, reaching },
        ...{ limit: 1_000, maxBytes: 512 * 1024 },
      });
      const last = slice.publications.at(-1)?.offset ?? 0;
      if (slice.publications[0]?.offset !== historySize / 2 + 1 || last < historySize) incomplete++;
    }
  };
  await Promise.all(Array.from({ length: readsAtOnce }, reader));
  return incomplete;
}

function text(rounds: readonly Round[], pass: boolean): string {
  const lines = [
    `mass return: ${nodeCount} nodes, ${channelCount} channels, ${returns} reads of ${historySize / 2} publications for each ` +
      `node and channel, ${publicationsMeanwhile} publications per channel meanwhile`,
    "",
    "                       primary            replica",
    "  REDIS_READ_URL   commands  CPU ms   commands  CPU ms    elapsed ms",
  ];
  for (const { readUrl, primary, replica, elapsedMs } of rounds) {
    const cells = [primary.commands, primary.cpuMs, replica.commands, replica.cpuMs].map((n) => String(n).padStart(8));
    lines.push(`  ${(readUrl ? "set" : "not set").padEnd(15)} ${cells.join(" ")}    ${String(elapsedMs).padStart(8)}`);
  }
  lines.push("");
  for (const { readUrl, reads, incompleteReads, deliveries, missedDeliveries } of rounds) {
    const verdict = incompleteReads === 0 && missedDeliveries === 0 ? "PASS" : "FAIL";
    const name = readUrl ? "set" : "not set";
    lines.push(
      `  ${verdict}  ${name}: ${incompleteReads} of ${reads} reads incomplete, ${missedDeliveries} missed, ${deliveries} delivered`,
    );
  }
  lines.push("", pass ? "PASS" : "FAIL", "");
  return lines.join("\n");
}

const primary = await startRedis();
const replica = await startRedis({ replicaOf: primary.port });
try {
  await eventually(async () => (await asked(replica, (client) => client.role()))[3] === "connected", withinMs);
  const rounds = [await measure(primary, replica, false), await measure(primary, replica, true)];
  const pass = rounds.every(({ incompleteReads, missedDeliveries }) => incompleteReads === 0 && missedDeliveries === 0);
  process.stdout.write(flags["--json"] ? `${JSON.stringify({ rounds, pass }, undefined, 2)}\n` : text(rounds, pass));
  process.exitCode = pass ? 0 : 1;
} finally {
  await replica.stop();
  await primary.stop();
}
